# tools/calibrate_teacher.py fits the calibrator, see docs/evidence/results.md.
_base_ = './retinanet_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RetinaNet',
    teacher=dict(
        config='configs/demo/retinanet_r18-half_fpn_12e_digits.py',
        checkpoint='work_dirs/demo/retinanet/teacher/epoch_12.pth',
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/demo/retinanet/calibration/'
            'teacher_calibration.json'),
        check=True),
    distill_losses=dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss')))
