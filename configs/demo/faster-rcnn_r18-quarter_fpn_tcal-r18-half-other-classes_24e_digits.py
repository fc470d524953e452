# The classes are paired by name: both have ten, but not the same ten.
_base_ = './faster-rcnn_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='configs/demo/'
        'faster-rcnn_r18-half_fpn_8e_digits-other-classes.py',
        checkpoint='work_dirs/demo/other-classes/teacher/epoch_8.pth',
        calibrator=dict(type='TemperatureScaling', temperature=1.5),
        check=True),
    distill_losses=dict(loss_kd_cls=dict(type='LogitKLDivLoss')))
