# No calibrator: a temperature of the teacher has no effect on this loss.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitStandardizationLoss', temperature=2.0)))
