# The baseline student: smaller, trained on the first 200 scenes only.
_base_ = [
    '../_base_/models/cascade-rcnn_r18-quarter_fpn32.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(
    roi_head=dict(bbox_head=[
        dict(head, num_classes=10) for head in _base_.model.roi_head.bbox_head
    ]))
train_dataloader = dict(dataset=dict(indices=200))
train_cfg = dict(max_epochs=24, val_interval=8)
