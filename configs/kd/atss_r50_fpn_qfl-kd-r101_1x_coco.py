_base_ = '../_base_/distilled/atss_r50_fpn_r101_1x_coco.py'

# KD of a sigmoid head, after BCKD and CrossKD: uncalibrated logits, and a
# small weight for classes on which both models agree.
model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(type='QualityFocalKDLoss', loss_weight=1.0)))
