# The calibrator has alpha and gamma of the teacher's focal loss.
_base_ = '../baseline/retinanet_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RetinaNet',
    teacher=dict(
        config='mmdet::retinanet/retinanet_r101_fpn_ms-640-800-3x_coco.py',
        checkpoint='auto',
        calibrator=dict(type='FocalPosterior', alpha=0.25, gamma=2.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
