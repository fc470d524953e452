# tools/calibrate_teacher.py fits the calibrator, see docs/evidence/results.md.
_base_ = './rtmdet_s-quarter_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RTMDet',
    teacher=dict(
        config='configs/demo/rtmdet_s-half_24e_digits.py',
        checkpoint='work_dirs/demo/rtmdet/teacher/epoch_24.pth',
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/demo/rtmdet/calibration/'
            'teacher_calibration.json'),
        check=True),
    distill_losses=dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss')))
