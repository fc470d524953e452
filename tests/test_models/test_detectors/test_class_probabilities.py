"""Class probabilities of each detection, of every family of heads."""
import copy
import pickle
import threading
from types import SimpleNamespace

import dense_cases
import pytest
import query_cases
import roi_cases
import torch
from mmdet.models.dense_heads import (CenterNetHead, CornerHead,
                                      GARetinaHead, GroundingDINOHead)
from mmdet.models.roi_heads.bbox_heads import BBoxHead, SABLHead
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import ConfigDict

from tcal_det.errors import InvalidTypeError
from tcal_det.models.detectors.kept_rows import kept_rows
from tcal_det.models.detectors.replaced_methods import methods_replaced
from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.head_adapters.decoded_boxes import (PredictedBoxes,
                                                         clip_to_images)
from tcal_det.registry import MODELS

NUM_CLASSES = dense_cases.NUM_CLASSES
# One of each way to choose detections, and each kind of result.
DENSE = ('RetinaHead', 'SoftmaxRetinaHead', 'FCOSHead', 'GFLHead', 'TOODHead',
         'PAAHead', 'RTMDetSepBNHead', 'YOLOXHead', 'YOLOV3Head', 'YOLACTHead',
         'CondInstBboxHead', 'RTMDetInsSepBNHead', 'SABLRetinaHead')
QUERY = ('DETR', 'DeformableDETR', 'DINO', 'DDQDETR', 'SparseRCNN',
         'QueryInst')
ROI = ('faster', 'mask', 'cascade_mask', 'scnet', 'seesaw', 'eqlv2', 'sabl',
       'trident', 'grid', 'mask_scoring')
NAMES = DENSE + QUERY + ROI
# Their score is the probability of the label, and not a product with it.
PLAIN_SCORES = ('RetinaHead', 'SoftmaxRetinaHead', 'GFLHead', 'TOODHead',
                'RTMDetSepBNHead', 'YOLACTHead', 'RTMDetInsSepBNHead', *QUERY,
                'faster', 'mask', 'cascade_mask', 'scnet', 'seesaw', 'eqlv2',
                'trident', 'grid')
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
    if name in ROI:
        torch.manual_seed(0)
        detector = registry.build(copy.deepcopy(cfg))
        for head in roi_cases.stages_of(detector):
            head.fc_cls.weight.data.normal_(0, 0.3)
    else:
        cases = query_cases if name in QUERY else dense_cases
        detector = cases.build(cfg, registry)
    return detector.eval()


def with_option(cfg, **test_cfg):
    cfg = copy.deepcopy(cfg)
    cfg.update(
        detector_type=cfg.type, type='tcal_det.RecalibratedDetector')
    cfg.test_cfg.update(test_cfg or dict(class_probabilities=True))
    return cfg


@pytest.fixture(scope='module')
def pairs():
    """A plain detector, and one of the same weights with the option."""
    built = {}

    def make(name):
        if name not in built:
            cfg = config_of(name)
            plain = build(name, cfg, MMDET_MODELS)
            mine = build(name, with_option(cfg))
            mine.load_state_dict(plain.state_dict())
            built[name] = plain, mine
        return built[name]

    return make


@pytest.fixture
def faster(pairs):
    return pairs('faster')


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
                ori_shape=(round(shape[0] / height),
                           round(shape[1] / width))))
    return images, samples


@torch.no_grad()
def predict(model, images, samples, rescale=True):
    results = model.predict(images, samples, rescale=rescale)
    return [result.pred_instances for result in results]


def assert_equal_but_for_rows(plain, mine):
    assert len(plain) == len(mine)
    for before, after in zip(plain, mine):
        assert set(after.keys()) - set(before.keys()) == {'class_probs'}
        for key, value in before.items():
            assert torch.equal(value, after[key]), key
        assert len(after.class_probs) == len(before)


def of_labels(found):
    return found.class_probs.gather(1, found.labels[:, None])[:, 0]


def left_behind(model):
    return [
        name for module in model.modules() for name in vars(module)
        if name in ('_predict_by_feat_single', '_bbox_post_process',
                    '_bbox_mask_post_process', 'predict_by_feat',
                    'predict_bbox', 'score_voting', 'merge_trident_bboxes')
    ]


@pytest.mark.parametrize('name', NAMES)
def test_nothing_else_changes(pairs, name):
    plain, mine = pairs(name)
    # mmdet's YOLACT knows the original size only.
    for rescale in (True, ) if name == 'YOLACTHead' else (False, True):
        before, after = (
            predict(model, *batch_of(name), rescale=rescale)
            for model in (plain, mine))
        assert_equal_but_for_rows(before, after)
        assert sum(map(len, after)) > 5
    for found in after:
        assert found.class_probs.shape[1] == NUM_CLASSES + (name in SOFTMAX)
        if name in SOFTMAX:
            assert torch.allclose(
                found.class_probs.sum(dim=1), torch.ones(len(found)))
        if name in PLAIN_SCORES:
            assert torch.equal(of_labels(found), found.scores)
    # The plain detector's own way is as it was.
    assert not left_behind(mine)


def assert_rows_of_boxes(found, boxes, rows):
    """The nearest of all boxes of an image is one with these rows."""
    assert len(found) > 0
    for box, row in zip(found.bboxes, found.class_probs):
        distance = (boxes - box).abs().amax(dim=1)
        nearest = distance <= distance.min() + 1e-5
        assert distance.min() < 1e-3
        difference = (rows[nearest] - row).abs().amax(dim=1)
        assert difference.min() < 1e-6


@pytest.mark.parametrize('name', [
    'RetinaHead', 'SoftmaxRetinaHead', 'FCOSHead', 'GFLHead', 'TOODHead',
    'RTMDetSepBNHead', 'YOLOXHead', 'YOLOV3Head', 'YOLACTHead',
    'SABLRetinaHead'
])
def test_rows_are_those_of_the_priors(pairs, name):
    """Maps and boxes of all priors, read from the head's output."""
    _, mine = pairs(name)
    outputs = []
    handle = mine.bbox_head.register_forward_hook(
        lambda _, args, output: outputs.append(copy.deepcopy(output)))
    images, samples = batch_of(name, scale_factor=(1.0, 1.0))
    detections = predict(mine, images, samples)
    handle.remove()
    if name == 'SABLRetinaHead':
        # Its boxes are of two parts, which the reader of boxes refuses.
        boxes = None
    else:
        boxes = torch.cat(
            PredictedBoxes(mine.bbox_head, outputs[0]).decode(), dim=1)
        if name not in ('TOODHead', 'YOLOXHead', 'YOLOV3Head'):
            boxes = clip_to_images(boxes, samples)
    columns = NUM_CLASSES + (name in SOFTMAX)
    for index, found in enumerate(detections):
        rows = []
        for level in outputs[0][0]:
            level = level[index].permute(1, 2, 0)
            if name == 'YOLOV3Head':
                level = level.reshape(-1, columns + 5)[:, 5:]
            level = level.reshape(-1, columns)
            if name in SOFTMAX:
                level = level.softmax(dim=1)
            elif name != 'TOODHead':
                level = level.sigmoid()
            rows.append(level)
        rows = torch.cat(rows)
        if boxes is not None:
            assert_rows_of_boxes(found, boxes[index], rows)
        else:
            assert_known(found.class_probs, rows)


def assert_known(rows, all_rows):
    distance = (rows[:, None] - all_rows).abs().amax(dim=2)
    assert len(rows) and distance.amin(dim=1).max() < 1e-6


def test_rows_of_voted_boxes(pairs):
    """PAA moves its boxes and reorders them: scores tell the prior."""
    _, mine = pairs('PAAHead')
    outputs = []
    handle = mine.bbox_head.register_forward_hook(
        lambda _, args, output: outputs.extend(output))
    detections = predict(mine, *batch_of('PAAHead'))
    handle.remove()
    for index, found in enumerate(detections):
        probs, ious = (
            torch.cat([
                level[index].permute(1, 2, 0).reshape(-1, columns)
                for level in outputs[part]
            ]).sigmoid() for part, columns in ((0, NUM_CLASSES), (2, 1)))
        assert len(set(found.labels.tolist())) > 1
        scores = (probs * ious).sqrt()[:, found.labels]
        best = (scores - found.scores).abs().argmin(dim=0)
        assert torch.allclose(probs[best], found.class_probs)


@pytest.mark.parametrize('name', QUERY)
def test_rows_are_those_of_the_queries(pairs, name):
    _, mine = pairs(name)
    images, samples = batch_of(name, scale_factor=(1.0, 1.0))
    detections = predict(mine, images, samples)
    with torch.no_grad():
        last = adapter_for(mine, 'teacher').predict(images, samples)[-1]
    for found, boxes, logits in zip(detections, last.boxes, last.logits):
        rows = logits.softmax(1) if name in SOFTMAX else logits.sigmoid()
        assert_rows_of_boxes(
            found, clip_to_images(boxes[None], samples[:1])[0]
            if name not in ('SparseRCNN', 'QueryInst') else boxes, rows)
    if name not in SOFTMAX:
        # Several detections of a query share its row.
        assert len(found.class_probs.unique(dim=0)) < len(found)


@pytest.mark.parametrize('name', ['faster', 'cascade_mask', 'sabl', 'seesaw'])
def test_rows_are_those_of_the_rois(pairs, name, monkeypatch):
    """mmdet's boxes and scores without NMS tell each detection's RoI."""
    plain, mine = pairs(name)
    cls = SABLHead if name == 'sabl' else BBoxHead
    own = cls._predict_by_feat_single
    raw = []

    def spy(self, *args, rcnn_test_cfg=None, **kwargs):
        raw.append(own(self, *args, rcnn_test_cfg=None, **kwargs))
        return own(self, *args, rcnn_test_cfg=rcnn_test_cfg, **kwargs)

    detections = predict(mine, *batch_of(name))
    monkeypatch.setattr(cls, '_predict_by_feat_single', spy)
    predict(plain, *batch_of(name))
    for found, all_of_image in zip(detections, raw):
        # Masks are pasted into the original images after their boxes are.
        boxes = all_of_image.bboxes
        if plain.with_mask:
            boxes = boxes / boxes.new_tensor((0.5, 0.8)).repeat(
                boxes.shape[1] // 2)
        boxes = boxes.view(len(boxes), -1, 4)
        for box, label, row in zip(found.bboxes, found.labels,
                                   found.class_probs):
            of_label = boxes[:, label if boxes.shape[1] > 1 else 0]
            distance = (of_label - box).abs().amax(dim=1)
            nearest = distance == distance.min()
            assert distance.min() < 1e-3
            assert (all_of_image.scores[nearest] == row).all(dim=1).any()


def test_rows_of_a_cascade_are_of_its_mean_logits(pairs):
    _, mine = pairs('cascade_mask')
    logits = []
    handles = [
        head.register_forward_hook(
            lambda _, args, output: logits.append(output[0]))
        for head in mine.roi_head.bbox_head
    ]
    detections = predict(mine, *batch_of('cascade_mask'))
    for handle in handles:
        handle.remove()
    assert len(logits) == 3
    expected = (sum(logits) / 3).softmax(dim=1)
    for found in detections:
        assert_known(found.class_probs, expected)


def test_equal_boxes_and_scores_keep_their_own_rows(faster):
    """No comparison afterwards could tell them apart."""
    _, mine = faster
    head = mine.roi_head.bbox_head
    rois = torch.tensor([[0, 10., 10, 40, 40]]).repeat(2, 1)
    logits = torch.tensor([[3., 1, 0, 0, 2], [3., 0, 1, 2, 0]])
    assert torch.equal(*logits.softmax(1)[:, 0])
    with methods_replaced(kept_rows(mine).replacements):
        found = head._predict_by_feat_single(
            rois,
            logits,
            torch.zeros(2, 4 * NUM_CLASSES),
            dict(img_shape=(96, 128), scale_factor=(1., 1.)),
            rcnn_test_cfg=ConfigDict(
                score_thr=0.3,
                nms=dict(type='nms', iou_threshold=1.0),
                max_per_img=10))
    assert found.labels.tolist() == [0, 0]
    assert torch.equal(
        found.class_probs.sort(dim=0).values,
        logits.softmax(1).sort(dim=0).values)
    assert not torch.equal(*found.class_probs)


def test_equal_queries_keep_their_own_rows(pairs):
    _, mine = pairs('DeformableDETR')
    head = mine.bbox_head
    logits = torch.tensor([[2., -1, -3, -4], [2., -3, -4, -1]])
    boxes = torch.full((2, 4), 0.5)
    with methods_replaced(kept_rows(mine).replacements):
        head.test_cfg.max_per_img, before = 4, head.test_cfg.max_per_img
        found = head._predict_by_feat_single(
            logits, boxes, dict(img_shape=(96, 128)), False)
        head.test_cfg.max_per_img = before
    assert found.labels.tolist()[:2] == [0, 0]
    assert not torch.equal(*found.class_probs[:2])
    # And two more detections of the same queries.
    assert sorted(found.labels.tolist()[2:]) == [1, 3]
    assert torch.equal(of_labels(found), found.scores)


@pytest.mark.parametrize('name', ['RetinaHead', 'faster', 'RTMDetSepBNHead'])
def test_images_without_detections(pairs, name):
    _, mine = pairs(name)
    mine = copy.deepcopy(mine)
    head = mine.roi_head if name == 'faster' else mine.bbox_head
    head.test_cfg.score_thr = 1.0
    for found in predict(mine, *batch_of(name)):
        columns = NUM_CLASSES + (name in SOFTMAX)
        assert found.class_probs.shape == (0, columns)


@pytest.mark.parametrize('name, empty', [('faster', (0, )),
                                         ('faster', (0, 1)),
                                         ('cascade_mask', (0, 1)),
                                         ('trident', (0, 1))])
def test_images_without_proposals(pairs, name, empty):
    """Of one image of a batch, and of all."""
    before, after = map(copy.deepcopy, pairs(name))
    for model in (before, after):
        own = model.rpn_head.predict

        def without(*args, own=own, **kwargs):
            results = own(*args, **kwargs)
            for index in empty:
                results[index] = results[index][:0]
            return results

        model.rpn_head.predict = without
    images, samples = batch_of(name)
    for sample in samples:
        sample.pop('proposals', None)
    plain, mine = (
        predict(model, images, samples) for model in (before, after))
    assert_equal_but_for_rows(plain, mine)
    assert mine[0].class_probs.shape == (0, NUM_CLASSES + 1)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_without_nms(pairs, dtype):
    """What a dense head gives to the older test-time augmentation."""
    _, mine = pairs('FCOSHead')
    images, samples = batch_of('FCOSHead')
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        maps = mine.bbox_head(mine.extract_feat(images))
    maps = [[level.to(dtype) for level in part] for part in maps]
    with methods_replaced(kept_rows(mine).replacements):
        results = mine.bbox_head.predict_by_feat(
            *maps, batch_img_metas=metas, with_nms=False)
    for found in results:
        assert len(found) > 20
        assert found.class_probs.shape == (len(found), NUM_CLASSES)
        assert found.class_probs.dtype == found.scores.dtype == dtype
        # Scores have the centerness in them.
        assert (of_labels(found) >= found.scores).all()
        assert (of_labels(found) > found.scores).any()


def test_soft_nms_lowers_scores_alone(pairs):
    plain, mine = map(copy.deepcopy, pairs('faster'))
    for model in (plain, mine):
        model.roi_head.test_cfg.nms = ConfigDict(
            type='soft_nms', method='gaussian', min_score=0.001)
    before, after = (
        predict(model, *batch_of('faster')) for model in (plain, mine))
    assert_equal_but_for_rows(before, after)
    lower = [of_labels(found) > found.scores for found in after]
    assert torch.cat(lower).any()
    assert all((of_labels(found) >= found.scores - 1e-6).all()
               for found in after)


@pytest.mark.parametrize('name', ['DETR', 'DeformableDETR'])
def test_half_precision(pairs, name):
    """Of heads whose NMS, which a CPU has in float32 only, is not needed."""
    results = []
    for model in pairs(name):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            results.append(predict(model, *batch_of(name)))
    assert_equal_but_for_rows(*results)
    for found in results[1]:
        assert torch.equal(of_labels(found), found.scores)


def test_methods_come_back_after_an_error(faster, monkeypatch):
    _, mine = faster

    def fail(*args, **kwargs):
        raise RuntimeError('no boxes today')

    with monkeypatch.context() as patch:
        patch.setattr('mmdet.models.layers.bbox_nms.batched_nms', fail)
        with pytest.raises(RuntimeError, match='no boxes today'):
            predict(mine, *batch_of('faster'))
    assert not left_behind(mine)
    assert all('class_probs' in one for one in predict(
        mine, *batch_of('faster')))


def test_copies_and_pickles(faster):
    _, mine = faster
    expected = predict(mine, *batch_of('faster'))
    for copied in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        for one, other in zip(expected, predict(copied, *batch_of('faster'))):
            assert torch.equal(one.class_probs, other.class_probs)


def test_threads_share_a_detector(faster):
    """And one of the same class without the option is not touched."""
    plain, mine = faster
    expected = predict(mine, *batch_of('faster'))
    results = {}

    def run(index, model):
        results[index] = [
            predict(model, *batch_of('faster')) for _ in range(5)
        ]

    threads = [
        threading.Thread(target=run, args=(index, model))
        for index, model in enumerate((mine, mine, plain))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        for result in results[index]:
            for found, one in zip(result, expected):
                assert torch.equal(found.scores, one.scores)
                assert ('class_probs' in found) == (index < 2)
                if index < 2:
                    assert torch.equal(found.class_probs, one.class_probs)


def test_recalibrated_scores_leave_the_rows(faster, tmp_path):
    from tcal_det.models.detectors import ScoreRecalibrator
    _, mine = faster
    mine = copy.deepcopy(mine)
    before = predict(mine, *batch_of('faster'))

    class Halved(ScoreRecalibrator):
        """Maps scores, and leaves out detections."""

        def __init__(self):
            pass

        def __call__(self, instances):
            result = instances.clone()
            result.scores = result.scores / 2
            return result[torch.arange(len(result)) % 3 > 0]

    mine._recalibrator = Halved()
    after = predict(mine, *batch_of('faster'))
    for one, other in zip(before, after):
        kept = torch.arange(len(one)) % 3 > 0
        assert len(other) > 10
        assert torch.equal(one.class_probs[kept], other.class_probs)
        assert torch.equal(of_labels(other) / 2, other.scores)


def test_distiller_has_the_option_too(distiller_cfg, batch):
    cfg = distiller_cfg(teacher=dict(config='gone.py', checkpoint='gone.pth'))
    results = []
    for option in (False, True):
        torch.manual_seed(0)
        cfg.test_cfg.class_probabilities = option
        model = MODELS.build(copy.deepcopy(cfg)).eval()
        model.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.3)
        data = model.data_preprocessor(batch(), False)
        with torch.no_grad():
            results.append([
                result.pred_instances
                for result in model(**data, mode='predict')
            ])
    assert sum(map(len, results[1])) > 10
    assert_equal_but_for_rows(*results)


@pytest.mark.parametrize('option', ['yes', 1, None, dict()])
def test_option_is_no_boolean(option):
    cfg = with_option(config_of('faster'), class_probabilities=option)
    with pytest.raises(InvalidTypeError, match='must be True or False, but'):
        MODELS.build(cfg)


def test_detector_without_boxes():
    cfg = roi_cases.case_cfg('panoptic')
    MODELS.build(with_option(cfg, class_probabilities=False))
    with pytest.raises(
            InvalidTypeError, match='PanopticFPN returns segments instead'):
        MODELS.build(with_option(cfg))


@pytest.mark.parametrize('head, reason', [
    (CenterNetHead, 'CenterNetHead, which does not choose its detections'),
    (CornerHead, 'CornerHead, which does not choose its detections'),
    (GARetinaHead, 'GARetinaHead, which does not choose its detections'),
    (GroundingDINOHead, 'GroundingDINOHead, whose columns are words'),
    (type(None), 'has neither an RoI head'),
])
def test_heads_that_are_refused(head, reason):
    detector = SimpleNamespace(bbox_head=head.__new__(head))
    assert reason in kept_rows(detector)


def test_roi_heads_that_are_refused():
    from mmdet.models.roi_heads.bbox_heads import MultiInstanceBBoxHead
    bbox_head = MultiInstanceBBoxHead.__new__(MultiInstanceBBoxHead)
    detector = SimpleNamespace(roi_head=SimpleNamespace(bbox_head=bbox_head))
    assert 'MultiInstanceBBoxHead, which does not' in kept_rows(detector)
