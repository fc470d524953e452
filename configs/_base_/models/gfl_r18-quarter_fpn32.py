# The smaller student: ResNet-18 of quarter width, FPN of 32 channels.
_base_ = './gfl_r18-half_fpn64.py'

model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32))
