# Not tuned: fit the ratio with calibrate_teacher.py --calibrator
# MaxLogitScaling, or try several values.
_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_16e_digits.py')

model = dict(
    teacher=dict(calibrator=dict(type='MaxLogitScaling', ratio=4.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
