_base_ = ('../tcal/'
          'mask-rcnn_r50_fpn_seesaw-loss_tcal-r101_random-ms-2x_lvis-v1.py')

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(loss_kd_cls=dict(temperature=4.0)))
