# Queries of teacher and student are matched. tools/calibrate_teacher.py fits
# the calibrator, see docs/evidence/results.md.
_base_ = './dino_r18-half-layers_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='DINO',
    teacher=dict(
        config='configs/demo/dino_r18-half_12e_digits.py',
        checkpoint='work_dirs/demo/dino/teacher/epoch_12.pth',
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/demo/dino/calibration/'
            'teacher_calibration.json'),
        check=True),
    distill_losses=dict(loss_kd_cls=dict(type='QualityFocalKDLoss')))
