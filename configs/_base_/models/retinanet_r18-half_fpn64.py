# A RetinaNet that trains from scratch on a CPU in minutes: ResNet-18 of half
# width, FPN of 64 channels on strides 8, 16 and 32, two convolutions per
# branch.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=3),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        # The features are not pretrained: without a norm the head learns
        # slowly.
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        # Anchors of 24 to 76 pixels on strides 8 and 16.
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32])))
