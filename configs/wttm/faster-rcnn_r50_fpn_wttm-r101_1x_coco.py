# No calibrator: the weight needs raw logits, and the loss has its own
# temperature.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(loss_kd_cls=dict(type='WTTMLoss', temperature=1.5)))
