"""Tiny detectors, plain and with class probabilities, of every family."""
import copy
from functools import lru_cache

import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from tcal_det.registry import MODELS
from tests import dense_cases, query_cases, roi_cases

NUM_CLASSES = dense_cases.NUM_CLASSES
# One of each way to choose detections, and each kind of result.
DENSE = ('RetinaHead', 'SoftmaxRetinaHead', 'FCOSHead', 'SABLRetinaHead',
         'PAAHead', 'YOLOXHead', 'YOLOV3Head', 'YOLACTHead',
         'RTMDetInsSepBNHead')
QUERY = ('DETR', 'DeformableDETR', 'DDQDETR', 'QueryInst')
ROI = ('faster', 'cascade_mask', 'seesaw', 'sabl', 'trident', 'grid',
       'mask_scoring')
NAMES = DENSE + QUERY + ROI
# Of each family, one that is looked at in the prepared images too.
PREPARED = ('RetinaHead', 'DETR', 'faster')
# Their score is the probability of the label, and not a product with it.
PLAIN_SCORES = ('RetinaHead', 'SoftmaxRetinaHead', 'YOLACTHead',
                'RTMDetInsSepBNHead', *QUERY, 'faster', 'cascade_mask',
                'seesaw', 'trident', 'grid')
SOFTMAX = ('SoftmaxRetinaHead', 'YOLACTHead', 'DETR', *ROI)


def config_of(name):
    """A tiny detector that finds something at a low threshold."""
    if name in ROI:
        cfg = roi_cases.case_cfg(name)
    elif name in QUERY:
        cfg = query_cases.tiny_model(name)
    elif name == 'SoftmaxRetinaHead':
        cfg = dense_cases.tiny_model('RetinaHead')
        cfg.bbox_head.loss_cls = ConfigDict(
            type='CrossEntropyLoss', use_sigmoid=False)
    elif name == 'RTMDetInsSepBNHead':
        cfg = dense_cases.small_dense(
            'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py', {})
    else:
        cfg = dense_cases.tiny_model(name)
    test_cfg = cfg.test_cfg.get('rcnn', cfg.test_cfg)
    if name not in QUERY:
        test_cfg.update(
            score_thr=0.02 if name in ROI else 1e-4, max_per_img=20)
        # YOLOv3 leaves out what has no object before it looks at classes.
        test_cfg.pop('conf_thr', None)
    return cfg


def build(name, cfg, registry=MODELS):
    init_default_scope('mmdet')
    if name in ROI:
        detector = roi_cases.build_detector(cfg)
    else:
        cases = query_cases if name in QUERY else dense_cases
        detector = cases.build(cfg, registry)
    return detector.eval()


def with_option(cfg, **test_cfg):
    cfg = copy.deepcopy(cfg)
    cfg.update(detector_type=cfg.type, type='tcal_det.RecalibratedDetector')
    cfg.test_cfg.update(test_cfg or dict(class_probabilities=True))
    return cfg


@lru_cache(maxsize=None)
def pair(name):
    """A plain detector, and one of the same weights with the option."""
    cfg = config_of(name)
    plain = build(name, cfg, MMDET_MODELS)
    mine = build(name, with_option(cfg))
    mine.load_state_dict(plain.state_dict())
    return plain, mine


def batch_of(name, scale_factor=(0.5, 0.8)):
    """Two images, which were made narrower and lower."""
    if name in ROI:
        samples = roi_cases.raw_batch()['data_samples']
        for sample in samples:
            if name != 'trident':  # whose RPN finds nothing
                del sample.proposals
        images = torch.randn(
            2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    else:
        cases = query_cases if name in QUERY else dense_cases
        images, samples = cases.batch(name)
    width, height = scale_factor
    for sample in samples:
        shape = sample.img_shape
        sample.set_metainfo(
            dict(
                batch_input_shape=tuple(images.shape[-2:]),
                scale_factor=scale_factor,
                ori_shape=(round(shape[0] / height), round(shape[1] / width))))
    return images, samples


@torch.no_grad()
def predict(model, images, samples, rescale=True):
    results = model.predict(images, samples, rescale=rescale)
    return [result.pred_instances for result in results]


def of_labels(found):
    """The probability of each detection's own class."""
    return found.class_probs.gather(1, found.labels[:, None])[:, 0]
