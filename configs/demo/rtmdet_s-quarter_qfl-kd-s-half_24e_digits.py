_base_ = '../_base_/distilled/rtmdet_s-quarter_s-half_24e_digits.py'

model = dict(distill_losses=dict(loss_kd_cls=dict(type='QualityFocalKDLoss')))
