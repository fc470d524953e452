# The necks have 32 and 64 channels: the energies of the gradients are
# compared.
_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_24e_digits.py'

model = dict(
    distill_losses=dict(loss_kdiga=dict(type='KDIGALoss', loss_weight=1.0)))
