# The student of the 16-epoch configs, trained longer.
_base_ = './faster-rcnn_r18-quarter_fpn_16e_digits.py'

train_cfg = dict(max_epochs=24, val_interval=8)
