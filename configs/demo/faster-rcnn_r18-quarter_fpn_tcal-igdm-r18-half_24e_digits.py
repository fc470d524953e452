_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_24e_digits.py'

model = dict(
    distill_losses=dict(
        loss_igdm=dict(type='IGDMLoss', epsilon=2.0, loss_weight=1.0)))
# The weight grows from 0, as in the public code of the method.
custom_hooks = [
    dict(
        type='tcal_det.LossWeightScheduleHook',
        loss='loss_igdm',
        schedule=dict(type='linear', start_factor=0.0, end_factor=1.0))
]
