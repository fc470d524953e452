"""Tiny detectors with each dense head of mmdet, and a batch for them."""
import copy
import json

import numpy as np
import torch
import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

from tests.zoo_configs import packaged_model

NUM_CLASSES = 4
CHANNELS = 32
SIZE = (128, 160)
SIZES = dict(DDODHead=(192, 224), PISASSDHead=(300, 300))
WITH_MASKS = ('YOLACTHead', 'CondInstBboxHead', 'RTMDetInsSepBNHead',
              'BoxInstBboxHead')
# Take images of one size only.
OF_ONE_SIZE = ('YOLACTHead', 'PISASSDHead')
# By the head's name: a packaged config, and what its parts are made smaller
# by beside the common rule.
HEADS = {
    'RetinaHead': ('retinanet/retinanet_r50_fpn_1x_coco.py', {}),
    'GHM': ('ghm/retinanet_r50_fpn_ghm-1x_coco.py', {}),
    'PISARetinaHead': ('pisa/retinanet-r50_fpn_pisa_1x_coco.py', {}),
    'FreeAnchorRetinaHead': ('free_anchor/freeanchor_r50_fpn_1x_coco.py', {}),
    'AutoAssignHead': ('autoassign/autoassign_r50-caffe_fpn_1x_coco.py', {}),
    'FSAFHead': ('fsaf/fsaf_r50_fpn_1x_coco.py', {}),
    'SABLRetinaHead': ('sabl/sabl-retinanet_r50_fpn_1x_coco.py', {}),
    'RepPointsHead': ('reppoints/reppoints-moment_r50_fpn_1x_coco.py',
                      dict(point_feat_channels=CHANNELS)),
    'ATSSHead': ('atss/atss_r50_fpn_1x_coco.py', {}),
    'DDODHead': ('ddod/ddod_r50_fpn_1x_coco.py', {}),
    'GFLHead': ('gfl/gfl_r50_fpn_1x_coco.py', {}),
    'PAAHead': ('paa/paa_r50_fpn_1x_coco.py', {}),
    'VFNetHead': ('vfnet/vfnet_r50_fpn_1x_coco.py', {}),
    'TOODHead': ('tood/tood_r50_fpn_1x_coco.py', dict(stacked_convs=2)),
    'FCOSHead': ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', {}),
    'FoveaHead': ('foveabox/fovea_r50_fpn_4xb4-1x_coco.py', {}),
    'RTMDetSepBNHead': ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py', {}),
    'YOLOXHead': ('yolox/yolox_tiny_8xb8-300e_coco.py', {}),
    'CenterNetUpdateHead':
    ('centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py', {}),
    'YOLOFHead': ('yolof/yolof_r50-c5_8xb8-1x_coco.py', {}),
    'SSDHead': ('ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py', {}),
    'YOLOV3Head': ('yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py', {}),
    'YOLACTHead': ('yolact/yolact_r50_1xb8-55e_coco.py', {}),
    'CondInstBboxHead': ('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance'
                         '.py', {}),
}


def tiny_model(name):
    """The model of one of ``HEADS``, small, for 4 classes."""
    return small_dense(*HEADS[name])


def small_dense(path, changes):
    """A packaged config's model, small, for 4 classes.

    Args:
        path (str): Below the packaged ``configs``.
        changes (dict): Of the head's config.

    Returns:
        ConfigDict: For the registry.
    """
    model = packaged_model(path)
    _shrink(model)
    model.bbox_head.update(changes)
    model.bbox_head.num_classes = NUM_CLASSES
    model.data_preprocessor = ConfigDict(
        type='DetDataPreprocessor', pad_size_divisor=32)
    return model


def _shrink(model):
    backbone, head = model.backbone, model.bbox_head
    backbone.pop('init_cfg', None)
    neck = model.get('neck')
    if backbone.type == 'ResNet':
        backbone.update(
            depth=18, base_channels=8, frozen_stages=-1, norm_eval=True)
        backbone.norm_cfg = dict(type='BN', requires_grad=True)
        widths = [8 * 2**stage for stage in backbone.out_indices]
        necks = neck if isinstance(neck, list) else [neck]
        necks[0].in_channels = (
            widths if isinstance(necks[0].in_channels, list) else widths[-1])
        for one in necks:
            one.out_channels = CHANNELS
            if 'block_mid_channels' in one:
                one.block_mid_channels = 8
        if len(necks) > 1:
            necks[1].in_channels = CHANNELS
        for key in ('in_channels', 'feat_channels', 'conv_out_channels'):
            if key in head:
                head[key] = CHANNELS
        head.in_channels = CHANNELS
        if 'stacked_convs' in head:
            head.stacked_convs = 1
        if head.type == 'DDODHead':
            # Its deformable convolutions need 3 cells at the largest stride.
            neck.num_outs = 4
            head.anchor_generator.strides = [8, 16, 32, 64]
    elif 'widen_factor' in backbone:
        ratio = 0.125 / backbone.widen_factor
        backbone.update(widen_factor=0.125, deepen_factor=0.167)
        if backbone.type == 'CSPNeXt':
            backbone.norm_cfg = neck.norm_cfg = head.norm_cfg = dict(type='BN')
        neck.update(
            in_channels=[int(one * ratio) for one in neck.in_channels],
            out_channels=CHANNELS,
            num_csp_blocks=1)
        head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
        if 'stacked_convs' in head:
            head.stacked_convs = 1
    if 'mask_head' in model:
        _shrink_masks(model)


def _shrink_masks(model):
    masks = model.mask_head
    if 'mask_feature_head' in masks:
        masks.mask_feature_head.update(
            in_channels=CHANNELS, feat_channels=CHANNELS)
    else:
        masks.in_channels = CHANNELS
        masks.num_classes = NUM_CLASSES
    if 'num_protos' in masks:
        masks.proto_channels = [CHANNELS, CHANNELS, CHANNELS, None, CHANNELS]
        for one in masks.get('segm_branch', []):
            one.num_classes = NUM_CLASSES
        if 'segm_branch' in masks:
            masks.segm_branch.in_channels = CHANNELS
            masks.segm_branch.num_classes = NUM_CLASSES


# Of plain detectors, by config and seed: computed once.
_states = {}


def build(cfg, registry=MMDET_MODELS, seed=0):
    """A detector in training, that says something in each logit."""
    key = (
        json.dumps(cfg.to_dict(), sort_keys=True),
        seed) if isinstance(cfg, ConfigDict) and 'teacher' not in cfg else None
    torch.manual_seed(seed)
    detector = registry.build(copy.deepcopy(cfg))
    if key in _states:
        detector.load_state_dict(_states[key])
        return detector.train()
    detector.init_weights()
    for name, weight in detector.bbox_head.named_parameters():
        # Not the offsets of deformable convolutions.
        if weight.dim() > 1 and ('cls' in name or 'convs_pred' in name):
            nn.init.kaiming_normal_(weight)
            weight.data *= 0.3
    _take_statistics(detector)
    if key is not None:
        _states[key] = copy.deepcopy(detector.state_dict())
    return detector.train()


@torch.no_grad()
def _take_statistics(detector):
    """Let BatchNorms hold those of a batch, as after training."""
    norms = [
        module for module in detector.modules()
        if isinstance(module, _BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    generator = torch.Generator().manual_seed(1)
    detector.bbox_head(
        detector.extract_feat(
            torch.randn(2, 3, 384, 416, generator=generator)))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def batch(name, num_objects=(3, 2), seed=0):
    """Images and annotations; the second image is smaller than the batch."""
    size = SIZES.get(name, SIZE)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(len(num_objects), 3, *size, generator=generator)
    samples = []
    for index, count in enumerate(num_objects):
        step = 0 if name in OF_ONE_SIZE else index
        height, width = size[0] - 20 * step, size[1] - 24 * step
        corner = torch.rand(count, 2, generator=generator) * 50
        extent = 20 + torch.rand(count, 2, generator=generator) * 60
        boxes = torch.cat([corner, corner + extent], dim=1)
        objects = InstanceData(
            bboxes=boxes,
            labels=torch.randint(NUM_CLASSES, (count, ), generator=generator))
        if name in WITH_MASKS:
            objects.masks = BitmapMasks(
                np.ones((count, *size), np.uint8), *size)
            # BoxInst's, of neighbours in a map of stride 4.
            objects.pairwise_masks = torch.ones(count, 8, size[0] // 4,
                                                size[1] // 4)
        sample = DetDataSample(gt_instances=objects)
        sample.set_metainfo(
            dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                pad_shape=(height, width),
                batch_input_shape=size,
                scale_factor=(1.0, 1.0)))
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return images, samples
