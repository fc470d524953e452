# The weight is alpha D H W on P3, with the authors' alpha for two-stage
# detectors.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_mgd=dict(
            type='MGDLoss',
            loss_weight=2.0,
            student_channels=[256] * 5,
            masked_share=0.45)))
