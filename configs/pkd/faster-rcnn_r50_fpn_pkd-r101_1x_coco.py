_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(loss_pkd=dict(type='PKDLoss', loss_weight=6.0)))
