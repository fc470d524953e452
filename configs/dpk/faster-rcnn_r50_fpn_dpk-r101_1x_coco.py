# The weight is not tuned; the weight of the authors is not known.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_dpk=dict(type='DPKLoss', student_channels=[256] * 5)))
