_base_ = '../../baseline/faster-rcnn_r50_fpn_ms-180k_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_ms-3x_coco.py',
        checkpoint='auto'))
