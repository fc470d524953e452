# Not tuned: fit the ratio with calibrate_teacher.py --calibrator
# MaxLogitScaling, or try several values.
_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    teacher=dict(
        calibrator=dict(_delete_=True, type='MaxLogitScaling', ratio=6.0)))
