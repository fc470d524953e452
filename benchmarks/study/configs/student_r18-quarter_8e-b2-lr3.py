# A pilot: fewer epochs at a higher learning rate.
_base_ = './student_r18-quarter_12e-b2.py'

train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=8))
optim_wrapper = dict(optimizer=dict(lr=0.003))
