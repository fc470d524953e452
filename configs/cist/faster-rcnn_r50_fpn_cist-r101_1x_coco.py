# Not tuned: fit the ratio with calibrate_teacher.py --calibrator
# MaxLogitScaling, or try several values.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    teacher=dict(calibrator=dict(type='MaxLogitScaling', ratio=6.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
