# The teacher.
_base_ = [
    '../_base_/models/faster-rcnn_r18-half_fpn64.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
train_cfg = dict(max_epochs=24, val_interval=24)
