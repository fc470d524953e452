_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_16e_digits.py'

model = dict(
    # The loss has its own temperatures.
    teacher=dict(calibrator=None),
    distill_losses=dict(
        loss_kd_cls=dict(
            _delete_=True,
            type='ATSLoss',
            target_temperature=4.0,
            other_temperature=2.0)))
