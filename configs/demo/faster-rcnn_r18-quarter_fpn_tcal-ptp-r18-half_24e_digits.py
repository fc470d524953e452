_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_24e_digits.py'

model = dict(
    distill_losses=dict(
        loss_state=dict(
            type='PretrainingStateLoss', in_features=128, threshold=0.8)))
# Replaces the paper's separate training before this one.
custom_hooks = [
    dict(
        type='tcal_det.LossWeightScheduleHook',
        loss='loss_state',
        schedule=dict(type='early_decay', gamma=0.5, hold=4))
]
