# A teacher with RoIs, which classifies the boxes of the student's best priors.
_base_ = '../baseline/retinanet_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RetinaNet',
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_x101-64x4d_fpn_ms-3x_coco.py',
        checkpoint='auto',
        calibrator=dict(type='TemperatureScaling', temperature=1.5)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
