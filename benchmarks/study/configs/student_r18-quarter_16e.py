# The first pilot: a quarter of the width, a tenth of the scenes.
_base_ = [
    '../../../configs/_base_/models/faster-rcnn_r18-quarter_fpn32.py',
    './study_digits.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
train_dataloader = dict(batch_size=4, dataset=dict(indices=200))
train_cfg = dict(max_epochs=16, val_interval=16)
default_hooks = dict(checkpoint=dict(interval=16, max_keep_ckpts=1))
