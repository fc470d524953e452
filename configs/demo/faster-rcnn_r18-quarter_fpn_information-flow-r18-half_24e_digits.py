# The last stage is distilled all the time, the earlier stages only at the
# beginning.
_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_24e_digits.py')

model = dict(
    distill_losses=dict(
        loss_flow_last=dict(type='InformationFlowLoss', levels=[-1]),
        loss_flow_early=dict(type='InformationFlowLoss', levels=[0, 1, 2])))

custom_hooks = [
    dict(
        type='tcal_det.LossWeightScheduleHook',
        loss='loss_flow_early',
        schedule=dict(type='early_decay', gamma=0.7))
]
