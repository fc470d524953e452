# The box edges are distilled in addition to the calibrated logits.
_base_ = './gfl_r18-quarter_fpn_tcal-r18-half_24e_digits.py'

model = dict(
    distill_losses=dict(
        loss_ld=dict(type='LocalizationDistillationLoss', loss_weight=1.0)))
