# No calibrator: the weight needs raw logits, and the loss has its own
# temperature.
_base_ = ('../_base_/distilled/'
          'faster-rcnn_r18-quarter_fpn_r18-half_16e_digits.py')

model = dict(
    distill_losses=dict(loss_kd_cls=dict(type='WTTMLoss', temperature=1.5)))
