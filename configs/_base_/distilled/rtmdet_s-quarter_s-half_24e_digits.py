_base_ = '../../demo/rtmdet_s-quarter_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RTMDet',
    teacher=dict(
        config='configs/demo/rtmdet_s-half_24e_digits.py',
        checkpoint='work_dirs/demo/rtmdet/teacher/epoch_24.pth',
        check=True))
