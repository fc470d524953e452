# The protocol of the distillation papers: 180,000 iterations of 8 images
# (about 12 epochs of COCO), learning rate 0.01, divided by 10 at 120,000 and
# 160,000. The runtime is included, because its hooks count iterations here.
_base_ = '../default_runtime.py'

train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=180000, val_interval=15000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0,
        end=1000),
    dict(
        type='MultiStepLR',
        begin=0,
        end=180000,
        by_epoch=False,
        milestones=[120000, 160000],
        gamma=0.1),
]
# 4 GPUs x 2 images
auto_scale_lr = dict(enable=False, base_batch_size=8)

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=15000))
log_processor = dict(by_epoch=False)
