# Not tuned: fit the ratio with calibrate_teacher.py --calibrator
# MaxLogitScaling, or try several values.
_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_16e_digits.py'

model = dict(
    teacher=dict(
        calibrator=dict(_delete_=True, type='MaxLogitScaling', ratio=4.0)))
