# The teacher, trained on all 600 scenes.
_base_ = [
    '../_base_/models/rtmdet_s-half.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(bbox_head=dict(num_classes=10))
train_cfg = dict(max_epochs=24, val_interval=8)
