# Weight and schedule are not tuned.
_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_state=dict(
            type='PretrainingStateLoss', in_features=1024, threshold=0.8)))
# Replaces the paper's separate training before this one.
custom_hooks = [
    dict(
        type='tcal_det.LossWeightScheduleHook',
        loss='loss_state',
        schedule=dict(type='early_decay', gamma=0.5, hold=2))
]
