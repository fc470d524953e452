_base_ = ('../_base_/distilled/'
          'mask-rcnn_r50_fpn_seesaw-loss_r101_random-ms-2x_lvis-v1.py')

model = dict(
    teacher=dict(calibrator=dict(type='TemperatureScaling', temperature=1.5)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
