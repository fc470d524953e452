# No calibrator: the loss has its own temperatures.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(type='ISATSLoss', target_temperature=4.0)))
