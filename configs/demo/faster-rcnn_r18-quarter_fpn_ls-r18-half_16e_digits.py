_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_16e_digits.py'

model = dict(
    # A temperature of the teacher would have no effect on this loss.
    teacher=dict(calibrator=None),
    distill_losses=dict(
        loss_kd_cls=dict(
            _delete_=True, type='LogitStandardizationLoss', temperature=2.0)))
