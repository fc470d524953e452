# A pilot: fewer epochs.
_base_ = './student_r18-quarter_16e.py'

train_cfg = dict(max_epochs=12, val_interval=12)
default_hooks = dict(checkpoint=dict(interval=12))
