_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_16e_digits.py'

model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(_delete_=True, type='AEKTLoss', cls_channels=11)))
