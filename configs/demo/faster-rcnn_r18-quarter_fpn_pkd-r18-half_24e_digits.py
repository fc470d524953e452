_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_24e_digits.py')

model = dict(
    distill_losses=dict(
        loss_pkd=dict(
            type='PKDLoss',
            loss_weight=1.0,
            student_channels=[32] * 5,
            teacher_channels=[64] * 5)))
