# Focal head on real images: backbone as in the Faster R-CNN beside it; head,
# losses and assigner of mmdet's atss_r50_fpn_1x_coco.py.
_base_ = [
    '../../../configs/_base_/models/retinanet_r18-half_fpn64.py',
    './bccd.py',
]

model = dict(
    type='ATSS',
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        # Strides 8, 16 and 32.
        out_indices=(2, 4, 6),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        frozen_stages=2,
        init_cfg=dict(
            type='Pretrained', checkpoint='data/backbones/mobilenetv2.pth')),
    neck=dict(
        in_channels=[32, 96, 320], start_level=0, add_extra_convs='on_output'),
    bbox_head=dict(
        _delete_=True,
        type='ATSSHead',
        num_classes=3,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        # One anchor a cell: of 32, 64 and 128 pixels.
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=4,
            scales_per_octave=1,
            strides=[8, 16, 32]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[.0, .0, .0, .0],
            target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(type='ATSSAssigner', topk=9),
        allowed_border=-1,
        pos_weight=-1,
        debug=False),
    test_cfg=dict(nms=dict(iou_threshold=0.6)))
