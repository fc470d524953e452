"""Every kind of RoI head that mmdet packages, tiny, and batches for them."""
import copy

import numpy as np
import torch
from mmdet.models.backbones.trident_resnet import TridentConv
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch.nn.modules.batchnorm import _BatchNorm

from tests.zoo_configs import packaged_model

NUM_CLASSES = 4
NUM_STUFF = 5
# What 256, 1024, ... channels of a packaged config become.
WIDTHS = {
    64: 8,
    128: 8,
    256: 16,
    512: 16,
    1024: 24,
    2048: 24,
}
BACKBONE = dict(depth=18, base_channels=8, init_cfg=None, pretrained=None)
# Others are replaced: it is the head that matters.
KEPT_BACKBONES = ('ResNet', 'DetectoRS_ResNet', 'TridentResNet')
SIZES = ((96, 128), (80, 112))


def _shrink(node):
    """Make the heads narrow, in place."""
    if isinstance(node, (list, tuple)):
        for child in node:
            _shrink(child)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key.endswith('channels') and isinstance(value, int):
            node[key] = WIDTHS.get(value, value)
        elif key == 'num_classes':
            node[key] = NUM_CLASSES if value != 183 else NUM_STUFF
        elif key in ('num_convs', 'num_groups'):
            node[key] = min(value, 2)
        elif key == 'init_cfg':
            node[key] = None
        else:
            _shrink(value)


def small(packaged, edit=None):
    """A packaged config's model, with a ResNet-18 of 1/8 width.

    Args:
        packaged (str): Below the packaged ``configs``, without '.py'.
        edit (callable, optional): Changes the model's config in place.

    Returns:
        ConfigDict: For the registry.
    """
    init_default_scope('mmdet')
    model = packaged_model(f'{packaged}.py')
    if model.backbone.type not in KEPT_BACKBONES:
        model.backbone = ConfigDict(
            type='ResNet', norm_eval=True, out_indices=(0, 1, 2, 3))
    _shrink(model)
    model.backbone.update(BACKBONE)
    # Caffe's images reach from -128 to 128: too much for random weights.
    model.data_preprocessor.std = [58.0, 57.0, 57.0]
    necks = model.get('neck') or []
    for neck in necks if isinstance(necks, list) else [necks]:
        if isinstance(neck.get('in_channels'), list):
            neck.in_channels = [8, 16, 32, 64]
    for proposals in (model.train_cfg.get('rpn_proposal'),
                      model.test_cfg.get('rpn')):
        if proposals:
            proposals.update(nms_pre=80, max_per_img=40)
    stages = model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 16
        if 'mask_size' in stage:
            stage.mask_size = min(stage.mask_size, 28)
    if edit is not None:
        edit(model)
    return model


def bbox_heads(model):
    heads = model.roi_head.bbox_head
    return heads if isinstance(heads, list) else [heads]


def _detectors(model):
    """Depth 50 only; mmcv's deformable convolution crashes on some CPUs."""
    narrow = dict(
        BACKBONE,
        depth=50,
        base_channels=4,
        sac=dict(type='SAC', use_deform=False),
        stage_with_sac=(False, False, False, True))
    model.backbone.update(narrow)
    model.neck.in_channels = [16, 32, 64, 128]
    model.neck.rfp_backbone.update(narrow, rfp_inplanes=16)
    model.neck.aspp_out_channels = 4


def _trident(model):
    """Depth 50 only; the shared head cannot be narrow, and is left out."""
    model.backbone.update(depth=50, base_channels=4)
    roi_head = model.roi_head
    roi_head.shared_head = None
    roi_head.bbox_roi_extractor.roi_layer.output_size = 7
    for part, key in ((model.rpn_head, 'in_channels'),
                      (roi_head.bbox_roi_extractor,
                       'out_channels'), (roi_head.bbox_head, 'in_channels')):
        part[key] = 64
    # So that some proposals fit the small images.
    model.rpn_head.anchor_generator.scales = [2, 4]
    model.train_cfg.rcnn.sampler.add_gt_as_proposals = True


def c4(model):
    """The shared head has the width that a ResNet has."""
    model.backbone.update(base_channels=64)
    model.roi_head.shared_head.depth = 18
    model.rpn_head.in_channels = 256
    model.roi_head.bbox_roi_extractor.out_channels = 256
    model.roi_head.bbox_head.in_channels = 512
    if 'mask_head' in model.roi_head:
        model.roi_head.mask_head.in_channels = 512
    model.train_cfg.rcnn.sampler.num = 4


def _grid(model):
    model.roi_head.grid_head.update(point_feat_channels=4)
    model.roi_head.grid_head.norm_cfg.num_groups = 9


def _with_loss(loss_cls):

    def edit(model):
        for bbox_head in bbox_heads(model):
            bbox_head.loss_cls = ConfigDict(loss_cls)

    return edit


def _fcos_rpn(model):
    model.rpn_head.feat_channels = 32


def _panoptic(model):
    model.semantic_head.update(
        num_things_classes=NUM_CLASSES,
        num_stuff_classes=NUM_STUFF,
        norm_cfg=dict(type='GN', num_groups=2))
    model.panoptic_fusion_head.update(
        num_things_classes=NUM_CLASSES, num_stuff_classes=NUM_STUFF)


def _two_branches(model):
    model.backbone.update(trident_dilations=(1, 2), num_branch=2)
    _trident(model)
    model.roi_head.num_branch = 2


SIGMOID = dict(type='CrossEntropyLoss', use_sigmoid=True)
EQLV2 = dict(type='EQLV2Loss', num_classes=NUM_CLASSES)
CASES = dict(
    faster=('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', None),
    mask=('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', None),
    c4=('faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco', c4),
    cascade=('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco', None),
    cascade_mask=('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco', None),
    htc=('htc/htc_r50_fpn_1x_coco', None),
    htc_without_semantic=('htc/htc-without-semantic_r50_fpn_1x_coco', None),
    detectors=('detectors/detectors_cascade-rcnn_r50_1x_coco', _detectors),
    scnet=('scnet/scnet_r50_fpn_1x_coco', None),
    seesaw=('seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1',
            None),
    seesaw_cascade=('seesaw_loss/cascade-mask-rcnn_r101_fpn_seesaw-loss_'
                    'random-ms-2x_lvis-v1', None),
    sigmoid=('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', _with_loss(SIGMOID)),
    eqlv2=('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', _with_loss(EQLV2)),
    v3det=('v3det/faster_rcnn_r50_fpn_8x4_sample1e-3_mstrain_v3det_2x', None),
    sabl=('sabl/sabl-faster-rcnn_r50_fpn_1x_coco', None),
    sabl_cascade=('sabl/sabl-cascade-rcnn_r50_fpn_1x_coco', None),
    trident=('tridentnet/tridentnet_r50-caffe_1x_coco', _trident),
    double=('double_heads/dh-faster-rcnn_r50_fpn_1x_coco', None),
    dynamic=('dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco', None),
    pisa=('pisa/faster-rcnn_r50_fpn_pisa_1x_coco', None),
    ohem=('faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco', None),
    grid=('grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco', _grid),
    point_rend=('point_rend/point-rend_r50-caffe_fpn_ms-1x_coco', None),
    mask_scoring=('ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco', None),
    libra=('libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco', None),
    panoptic=('panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco', _panoptic),
    cascade_rpn=('cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco',
                 None),
    guided_anchors=('guided_anchoring/ga-faster-rcnn_r50-caffe_fpn_1x_coco',
                    None),
    fcos_rpn=('faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco', _fcos_rpn),
)


def case_cfg(name):
    return small(*CASES[name])


def build_detector(cfg, seed=0):
    """A detector whose classes differ in their logits."""
    init_default_scope('mmdet')
    torch.manual_seed(seed)
    detector = MODELS.build(copy.deepcopy(cfg))
    for head in stages_of(detector):
        head.fc_cls.weight.data.normal_(0, 0.3)
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, TridentConv):
            # Only ``init_weights``, which logs every weight, gives it values.
            torch.nn.init.kaiming_normal_(module.weight)
        if hasattr(module, 'weight_gamma'):
            # DetectoRS standardises its weights; BatchNorms that are frozen
            # would let the features grow without limit.
            module.weight_gamma.fill_(module.weight[0].numel()**-.5)
    return detector


def save_teacher(folder, name, cfg, detector):
    """Write a checkpoint; return ``teacher=dict(...)``."""
    path = str(folder / f'{name}.pth')
    torch.save(dict(state_dict=detector.state_dict()), path)
    return dict(config=Config(dict(model=copy.deepcopy(cfg))), checkpoint=path)


def kd_loss(cfg, **options):
    """A loss for the head's activation."""
    loss_cls = bbox_heads(cfg)[0].get('loss_cls') or {}
    is_sigmoid = loss_cls.get('type') == 'EQLV2Loss' or loss_cls.get(
        'use_sigmoid', False)
    kind = 'LogitBinaryKLDivLoss' if is_sigmoid else 'LogitKLDivLoss'
    return dict(type=f'tcal_det.{kind}', **options)


def distiller_of(cfg, teacher, losses=None, state=None):
    """The student of ``cfg``, in the state of another detector."""
    from tcal_det.registry import MODELS as TCAL_MODELS
    init_default_scope('mmdet')
    cfg = copy.deepcopy(cfg)
    if losses is None:
        losses = dict(loss_kd_cls=kd_loss(cfg))
    cfg.update(
        student_type=cfg.type,
        type='tcal_det.CalibratedTeacherDistiller',
        teacher=teacher,
        distill_losses=losses)
    distiller = TCAL_MODELS.build(cfg)
    if state is not None:
        distiller.load_state_dict(state)
    return distiller


def raw_batch(num_boxes=3, seed=0):
    """What a dataloader gives: boxes, masks and a map of stuff."""
    rng = np.random.default_rng(seed)
    inputs, data_samples = [], []
    for index, (height, width) in enumerate(SIZES):
        inputs.append(
            torch.from_numpy(
                rng.integers(0, 256, (3, height, width), np.uint8)))
        corner = rng.uniform(0, .5, (num_boxes, 2)) * (width, height)
        extent = rng.uniform(.3, .5, (num_boxes, 2)) * (width, height)
        masks = rng.integers(0, 2, (num_boxes, height, width), np.uint8)
        sample = DetDataSample(
            gt_instances=InstanceData(
                bboxes=torch.from_numpy(
                    np.hstack([corner, corner + extent]).astype('float32')),
                labels=torch.from_numpy(
                    rng.integers(0, NUM_CLASSES, num_boxes)),
                masks=BitmapMasks(masks, height, width)),
            # Read by Fast R-CNN only.
            proposals=InstanceData(
                bboxes=torch.from_numpy(
                    np.hstack([corner, corner +
                               extent / 2]).astype('float32'))),
            ignored_instances=InstanceData(
                bboxes=torch.zeros(0, 4),
                labels=torch.zeros(0, dtype=torch.long)),
            gt_sem_seg=PixelData(
                sem_seg=torch.from_numpy(
                    rng.integers(0, NUM_STUFF, (1, height, width)))))
        sample.set_metainfo(
            dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1.0, 1.0),
                img_id=index))
        data_samples.append(sample)
    return dict(inputs=inputs, data_samples=data_samples)


def training_losses(model, seed=0, freeze_norms=False, **batch):
    """Losses of one training step, not yet summed."""
    model.train()
    if freeze_norms:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    data = model.data_preprocessor(raw_batch(**batch), True)
    torch.manual_seed(seed)
    # Some of mmdet's samplers draw from it.
    np.random.seed(seed)
    return model(**data, mode='loss')


def stages_of(detector):
    """The bbox heads, also of a head with one stage."""
    heads = detector.roi_head.bbox_head
    return heads if isinstance(heads, torch.nn.ModuleList) else [heads]


def num_hooks(model):
    """Hooks of all kinds that a step might leave behind."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) +
        len(module._backward_hooks) for module in model.modules())


class Case:
    """A plain detector, and a student of the same weights as its teacher.

    Attributes:
        name (str): Key of ``CASES``.
        cfg (ConfigDict): The detector's config.
        plain (nn.Module): The detector; a copy takes a training step.
        teacher (dict): The model key of this detector's config and weights.
        student (nn.Module): Distilled with weight 1 from that teacher.
    """

    def __init__(self, name, folder):
        self.name = name
        self.cfg = case_cfg(name)
        self.plain = build_detector(self.cfg)
        self.teacher = save_teacher(folder, name, self.cfg, self.plain)
        self.student = self.make_student()
        self.student.teacher.build(self.student)

    def make_student(self, losses=None):
        return distiller_of(self.cfg, self.teacher, losses,
                            self.plain.state_dict())

    def make_plain(self):
        return copy.deepcopy(self.plain)

    def reset(self):
        """Forget what the steps of another test did to the student."""
        self.student.load_state_dict(self.plain.state_dict())
        self.student.zero_grad()
        return self.student
