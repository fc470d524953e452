_base_ = '../../demo/cascade-rcnn_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='CascadeRCNN',
    teacher=dict(
        config='configs/demo/cascade-rcnn_r18-half_fpn_12e_digits.py',
        checkpoint='work_dirs/demo/cascade/teacher/epoch_12.pth',
        check=True))
