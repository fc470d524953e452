# A teacher with eight of the ten digits, in another order, and two classes
# that the student does not have.
_base_ = [
    '../_base_/models/faster-rcnn_r18-half_fpn64.py',
    '../_base_/datasets/digits_other-classes.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
train_cfg = dict(max_epochs=8, val_interval=8)
