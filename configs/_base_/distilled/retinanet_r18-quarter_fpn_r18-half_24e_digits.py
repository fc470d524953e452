_base_ = '../../demo/retinanet_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RetinaNet',
    teacher=dict(
        config='configs/demo/retinanet_r18-half_fpn_12e_digits.py',
        checkpoint='work_dirs/demo/retinanet/teacher/epoch_12.pth',
        check=True))
