# The baseline student: half the teacher's width, half its epochs.
_base_ = [
    '../_base_/models/faster-rcnn_r18-quarter_fpn32.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/schedule_small-data.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
