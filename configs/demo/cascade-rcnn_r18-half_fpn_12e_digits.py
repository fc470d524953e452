# The teacher, trained on all 600 scenes.
_base_ = [
    '../_base_/models/cascade-rcnn_r18-half_fpn64.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(
    roi_head=dict(bbox_head=[
        dict(head, num_classes=10) for head in _base_.model.roi_head.bbox_head
    ]))
train_cfg = dict(max_epochs=12, val_interval=4)
