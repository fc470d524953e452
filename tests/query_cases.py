"""Tiny detectors with queries of each kind that mmdet packages."""
import copy

import numpy as np
import torch
import torch.nn as nn
from mmdet.models.detectors import DDQDETR
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from tcal_det.registry import MODELS
from tests import dense_cases, roi_cases
from tests.zoo_configs import packaged_model

NUM_CLASSES = dense_cases.NUM_CLASSES
NUM_QUERIES = 12
NUM_LAYERS = 3
# mmdet fixes the width of what encodes places in some of them.
WIDTH, FIXED_WIDTH = 32, 256
DETECTORS = {
    'DETR': ('detr/detr_r50_8xb2-150e_coco.py', WIDTH),
    'ConditionalDETR':
    ('conditional_detr/conditional-detr_r50_8xb2-50e_coco.py', FIXED_WIDTH),
    'DABDETR': ('dab_detr/dab-detr_r50_8xb2-50e_coco.py', WIDTH),
    'DeformableDETR':
    ('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', WIDTH),
    'RefinedDeformableDETR':
    ('deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco.py', WIDTH),
    'TwoStageDeformableDETR':
    ('deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
     FIXED_WIDTH),
    'DINO': ('dino/dino-4scale_r50_8xb2-12e_coco.py', FIXED_WIDTH),
    'DDQDETR': ('ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py', WIDTH),
    'SparseRCNN': ('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', None),
    'QueryInst': ('queryinst/queryinst_r50_fpn_1x_coco.py', None),
}
OF_DETR = [name for name, (_, width) in DETECTORS.items() if width]


def tiny_model(name, num_queries=NUM_QUERIES, width=None):
    """The model of one of ``DETECTORS``, for 4 classes.

    Args:
        name (str): Key of ``DETECTORS``.
        num_queries (int): Queries of an image.
        width (int, optional): Width of the transformer, where mmdet leaves
            the choice.
    """
    path, own_width = DETECTORS[name]
    return small_query(path, width or own_width, num_queries)


def small_query(path, width=None, num_queries=NUM_QUERIES):
    """A packaged config's model, small, for 4 classes.

    Args:
        path (str): Below the packaged ``configs``.
        width (int, optional): Width of the transformer; None for a detector
            with RoIs.
        num_queries (int): Queries of an image.
    """
    if width is None:
        return roi_cases.small(
            path[:-len('.py')],
            lambda model: _shrink_stages(model, num_queries))
    init_default_scope('mmdet')
    model = packaged_model(path)
    _shrink(model, width)
    model.num_queries = num_queries
    model.encoder.num_layers = 1
    model.decoder.num_layers = NUM_LAYERS
    model.positional_encoding.num_feats = width // 2
    model.bbox_head.update(num_classes=NUM_CLASSES, embed_dims=width)
    if model.type == 'DDQDETR':
        # So that some of the few boxes count as duplicates.
        model.dqs_cfg = dict(type='nms', iou_threshold=0.3)
    if 'dn_cfg' in model:
        model.dn_cfg.group_cfg.num_dn_queries = 8
    model.test_cfg.max_per_img = num_queries
    backbone = model.backbone
    backbone.update(
        type='ResNet',
        depth=18,
        base_channels=8,
        frozen_stages=-1,
        norm_eval=True,
        norm_cfg=dict(type='BN', requires_grad=True))
    backbone.pop('init_cfg', None)
    model.neck.in_channels = [8 * 2**stage for stage in backbone.out_indices]
    model.data_preprocessor = ConfigDict(
        type='DetDataPreprocessor', pad_size_divisor=32)
    return model


def _shrink(node, width):
    """Make the transformer narrow and without dropout, in place."""
    if isinstance(node, (list, tuple)):
        for child in node:
            _shrink(child, width)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in ('embed_dims', 'out_channels'):
            node[key] = width
        elif key == 'feedforward_channels':
            node[key] = 32
        elif key == 'num_groups' and value:
            node[key] = 8
        elif key.endswith('drop') or key == 'dropout':
            node[key] = 0.0
        else:
            _shrink(value, width)
    for key in ('self_attn_cfg', 'cross_attn_cfg'):
        # mmcv's deformable attention drops some by default, and looks at four
        # points a head, which takes most of a step.
        if key in node and not {'num_heads', 'dropout'} & set(node[key]):
            node[key].update(dropout=0.0, num_points=1)


def _shrink_stages(model, num_queries):
    roi_head = model.roi_head
    width = roi_head.bbox_head[0].in_channels
    model.rpn_head.update(
        num_proposals=num_queries, proposal_feature_channel=width)
    roi_head.update(
        num_stages=NUM_LAYERS,
        stage_loss_weights=[1, 0.5, 2],
        proposal_feature_channel=width)
    for key in ('bbox_head', 'mask_head'):
        if key in roi_head:
            roi_head[key] = roi_head[key][:NUM_LAYERS]
    for head in roi_head.bbox_head:
        head.update(num_heads=4, feedforward_channels=32)
    model.train_cfg.rcnn = model.train_cfg.rcnn[:NUM_LAYERS]
    model.test_cfg.rcnn.max_per_img = num_queries


def build(cfg, registry=MMDET_MODELS, seed=0):
    """A detector in training, of whose queries some are confident."""
    init_default_scope('mmdet')
    torch.manual_seed(seed)
    detector = registry.build(copy.deepcopy(cfg))
    for name, weight in detector.named_parameters():
        is_head = name.startswith(('bbox_head.', 'roi_head.bbox_head.'))
        if is_head and ('cls_branches' in name or 'fc_cls' in name):
            if weight.dim() > 1:
                nn.init.normal_(weight, 0, 2 / weight.shape[1]**.5)
            else:
                nn.init.constant_(weight, -1.0)
                # DETR has a column for background.
                weight.data[NUM_CLASSES:] = -3.0
        elif is_head and weight.dim() > 1 and ('reg_branches' in name
                                               or 'fc_reg' in name):
            nn.init.normal_(weight, 0, 0.5 / weight.shape[1]**.5)
        elif name == 'level_embed':
            # Only `init_weights`, which logs every weight, gives it values.
            nn.init.normal_(weight)
        elif name.endswith('init_proposal_bboxes.weight'):
            weight.data = 0.2 + 0.4 * torch.rand_like(weight)
    if isinstance(detector, DDQDETR):
        # Boxes that grow from layer to layer cover each other.
        for branch in detector.bbox_head.reg_branches[:NUM_LAYERS]:
            branch[-1].bias.data[2:] = 1.5
    return detector.train()


def batch(name, num_objects=(3, 2), seed=0):
    """Images and annotations; the second image is smaller than the batch."""
    images, samples = dense_cases.batch(None, num_objects, seed)
    if name == 'QueryInst':
        for sample in samples:
            objects = sample.gt_instances
            objects.masks = BitmapMasks(
                np.ones((len(objects), *dense_cases.SIZE), np.uint8),
                *dense_cases.SIZE)
    return images, samples


def own_layer_losses(losses):
    """The classification losses of the layers that a detector logged."""
    if 's0.loss_cls' in losses:
        return [losses[f's{stage}.loss_cls'] for stage in range(NUM_LAYERS)]
    names = [f'd{layer}.loss_cls' for layer in range(NUM_LAYERS - 1)]
    return [losses[name] for name in (*names, 'loss_cls')]


def kd_loss(name, **changes):
    """A distillation loss for the activation of one of ``DETECTORS``."""
    kind = 'LogitKLDivLoss' if name == 'DETR' else 'LogitBinaryKLDivLoss'
    return dict(loss_kd_cls=dict(dict(type=f'tcal_det.{kind}'), **changes))


def distiller(folder,
              cfg,
              losses,
              teacher_cfg=None,
              seed=0,
              teacher_seed=0,
              **teacher):
    """A student, and a teacher that begins with the weights of a seed.

    Args:
        folder (Path): Where the teacher's checkpoint goes.
        cfg (ConfigDict): The student.
        losses (dict): ``distill_losses``.
        teacher_cfg (ConfigDict, optional): By default the student's.
        seed (int): Of the student.
        teacher_seed (int): Of the teacher.
        **teacher: Further arguments of the teacher.
    """
    teacher_cfg = copy.deepcopy(teacher_cfg or cfg)
    path = str(folder / f'{teacher_cfg.type}-{teacher_seed}.pth')
    torch.save(
        dict(state_dict=build(teacher_cfg, seed=teacher_seed).state_dict()),
        path)
    student = dict(
        copy.deepcopy(cfg),
        type='tcal_det.CalibratedTeacherDistiller',
        student_type=cfg.type,
        teacher=dict(
            config=Config(dict(model=teacher_cfg)), checkpoint=path,
            **teacher),
        distill_losses=losses)
    return build(student, MODELS, seed)


def step(detector, inputs):
    """Losses, their sum, and gradients, of one step of SGD."""
    torch.manual_seed(5)
    losses = detector.loss(*copy.deepcopy(inputs))
    total, logged = detector.parse_losses(losses)
    total.backward()
    gradients = {
        name: weight.grad.clone()
        for name, weight in detector.named_parameters()
        if weight.grad is not None
    }
    with torch.no_grad():
        for weight in detector.parameters():
            if weight.grad is not None:
                weight -= 1e-4 * weight.grad
                weight.grad = None
    return logged, gradients


def assert_same_training(plain, student, name):
    """Losses, gradients and weights after two steps, bit for bit."""
    inputs = batch(name)
    for _ in range(2):
        expected, expected_gradients = step(plain, inputs)
        logged, gradients = step(student, inputs)
        if student.is_distilling:
            assert logged.pop('loss_kd_cls') == 0
        logged.pop('loss'), expected.pop('loss')
        assert logged.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(logged[key], value), key
        assert gradients.keys() == expected_gradients.keys()
        for key, value in expected_gradients.items():
            assert torch.equal(gradients[key], value), key
    for key, value in plain.state_dict().items():
        assert torch.equal(student.state_dict()[key], value), key
