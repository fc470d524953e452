_base_ = '../../bccd/faster-rcnn_r18-quarter_fpn_12e_bccd.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='configs/bccd/faster-rcnn_r18-half_fpn_24e_bccd.py',
        checkpoint='work_dirs/bccd/teacher/epoch_24.pth'))
