# The last stage is distilled all the time, the earlier stages only at the
# beginning, and the first, which is frozen, never. An auxiliary teacher as
# deep as the student is configured like any other teacher.
_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_flow_last=dict(type='InformationFlowLoss', levels=[-1]),
        loss_flow_early=dict(type='InformationFlowLoss', levels=[1, 2])))

custom_hooks = [
    dict(
        type='tcal_det.LossWeightScheduleHook',
        loss='loss_flow_early',
        schedule=dict(type='early_decay', gamma=0.7))
]
