_base_ = './faster-rcnn_r18-quarter_fpn_pkd-r18-half_24e_digits.py'

model = dict(
    teacher=dict(
        calibrator=dict(type='TemperatureScaling', temperature=1.5),
        check=True),
    distill_losses=dict(loss_kd_cls=dict(type='LogitKLDivLoss')))
