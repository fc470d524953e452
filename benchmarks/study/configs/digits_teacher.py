# A teacher; the plan names the scenes that it sees.
_base_ = [
    '../../../configs/_base_/models/faster-rcnn_r18-half_fpn64.py',
    './digits.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
train_dataloader = dict(batch_size=8)
train_cfg = dict(max_epochs=12)
