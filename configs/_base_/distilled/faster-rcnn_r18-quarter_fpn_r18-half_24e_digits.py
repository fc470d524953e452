_base_ = '../../demo/faster-rcnn_r18-quarter_fpn_24e_digits.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='configs/demo/faster-rcnn_r18-half_fpn_8e_digits.py',
        checkpoint='work_dirs/demo/teacher/epoch_8.pth'))
