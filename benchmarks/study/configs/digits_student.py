# The student: a quarter of the width, the first 200 scenes, 4800 steps.
_base_ = [
    '../../../configs/_base_/models/faster-rcnn_r18-quarter_fpn32.py',
    './digits.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
train_dataloader = dict(batch_size=2, dataset=dict(indices=200))
train_cfg = dict(max_epochs=48)
optim_wrapper = dict(optimizer=dict(lr=0.002))
