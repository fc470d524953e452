_base_ = '../../demo/gfl_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='GFL',
    teacher=dict(
        config='configs/demo/gfl_r18-half_fpn_24e_digits.py',
        checkpoint='work_dirs/demo/gfl/teacher/epoch_24.pth',
        check=True))
