# Softmax head on real images: MobileNetV2 with ImageNet weights
# (docs/evidence/preregistration.md says which), its first stages and batch
# norms frozen as in mmdet's fine-tuning.
_base_ = [
    '../../../configs/_base_/models/faster-rcnn_r18-half_fpn64.py',
    './bccd.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        # Strides 4, 8, 16 and 32.
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        frozen_stages=2,
        init_cfg=dict(
            type='Pretrained', checkpoint='data/backbones/mobilenetv2.pth')),
    neck=dict(in_channels=[24, 32, 96, 320]),
    roi_head=dict(bbox_head=dict(num_classes=3)))
