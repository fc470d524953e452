# The baseline student: smaller, trained on the first 200 scenes only.
_base_ = [
    '../_base_/models/retinanet_r18-quarter_fpn32.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(bbox_head=dict(num_classes=10))
train_dataloader = dict(dataset=dict(indices=200))
train_cfg = dict(max_epochs=24, val_interval=8)
