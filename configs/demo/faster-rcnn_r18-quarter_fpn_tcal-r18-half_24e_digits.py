# The 16-epoch config, trained longer.
_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_16e_digits.py'

train_cfg = dict(max_epochs=24, val_interval=8)
