_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(
            type='LogitKLDivLoss', temperature=4.0, loss_weight=1.0)))
