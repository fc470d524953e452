# The authors' weights for two-stage detectors.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_fgd=dict(
            type='FGDLoss',
            student_channels=[256] * 5,
            foreground_weight=5e-5,
            background_weight=2.5e-5,
            attention_weight=5e-5,
            global_weight=5e-7)))
