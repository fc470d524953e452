# A teacher; every second epoch is kept, for the study of teachers.
_base_ = [
    '../../../configs/_base_/models/faster-rcnn_r18-half_fpn64.py',
    './study_digits.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
train_dataloader = dict(batch_size=8)
train_cfg = dict(max_epochs=12, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=-1))
