_base_ = '../_base_/distilled/retinanet_r18-quarter_fpn_r18-half_24e_digits.py'

model = dict(distill_losses=dict(loss_kd_cls=dict(type='QualityFocalKDLoss')))
