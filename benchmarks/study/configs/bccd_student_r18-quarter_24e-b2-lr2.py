# The student of the comparison on BCCD: it sees the first 62 of 205 images.
_base_ = '../../../configs/bccd/faster-rcnn_r18-quarter_fpn_12e_bccd.py'

train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(indices=62))
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0)
train_cfg = dict(max_epochs=24, val_interval=24)
optim_wrapper = dict(optimizer=dict(lr=0.002))
default_hooks = dict(checkpoint=dict(interval=24, max_keep_ckpts=1))
