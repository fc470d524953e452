_base_ = '../../baseline/retinanet_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RetinaNet',
    teacher=dict(
        config='mmdet::retinanet/retinanet_r101_fpn_ms-640-800-3x_coco.py',
        checkpoint='auto'))
