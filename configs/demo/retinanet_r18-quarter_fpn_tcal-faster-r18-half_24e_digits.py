# A teacher with RoIs, which classifies boxes that the student predicts.
_base_ = './retinanet_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RetinaNet',
    teacher=dict(
        config='configs/demo/faster-rcnn_r18-half_fpn_8e_digits.py',
        checkpoint='work_dirs/demo/teacher/epoch_8.pth',
        calibrator=dict(type='TemperatureScaling', temperature=1.5),
        check=True),
    distill_losses=dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss')))
