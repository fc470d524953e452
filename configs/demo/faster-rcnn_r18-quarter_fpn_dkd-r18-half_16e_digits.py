_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_16e_digits.py')

model = dict(
    teacher=dict(calibrator=dict(type='TemperatureScaling', temperature=1.5)),
    distill_losses=dict(
        loss_kd_cls=dict(type='DKDLoss', alpha=1.0, beta=0.25)))
