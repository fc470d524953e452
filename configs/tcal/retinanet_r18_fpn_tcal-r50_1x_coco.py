# The calibrator has alpha and gamma of the teacher's focal loss.
_base_ = '../_base_/distilled/retinanet_r18_fpn_r50_1x_coco.py'

model = dict(
    teacher=dict(
        calibrator=dict(type='FocalPosterior', alpha=0.25, gamma=2.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
