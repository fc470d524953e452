# The weight is not tuned.
_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    distill_losses=dict(loss_kdiga=dict(type='KDIGALoss', loss_weight=1.0)))
