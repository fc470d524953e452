# The teacher, trained on all 600 scenes.
_base_ = [
    '../_base_/models/dino_r18-half.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(bbox_head=dict(num_classes=10))
train_cfg = dict(max_epochs=12, val_interval=12)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
