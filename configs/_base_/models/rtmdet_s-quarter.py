# The smaller student: RTMDet-s of quarter width.
_base_ = './rtmdet_s-half.py'

model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32))
