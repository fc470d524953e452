# A teacher with queries, whose predictions are matched with the RoIs. The
# calibrator has alpha and gamma of its focal loss.
_base_ = '../baseline/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
        checkpoint='auto',
        calibrator=dict(type='FocalPosterior', alpha=0.25, gamma=2.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
