# No calibrator: the loss has its own temperatures.
_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_16e_digits.py')

model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(type='ISATSLoss', target_temperature=4.0)))
