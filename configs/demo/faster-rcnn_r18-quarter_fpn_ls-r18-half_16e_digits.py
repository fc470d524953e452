# No calibrator: a temperature of the teacher has no effect on this loss.
_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_16e_digits.py')

model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitStandardizationLoss', temperature=2.0)))
