_base_ = ('../_base_/distilled/'
          'mask-rcnn_r50_fpn_seesaw-loss_r101_random-ms-2x_lvis-v1.py')

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    distill_losses=dict(
        loss_kd_cls=dict(
            type='LogitKLDivLoss', temperature=4.0, loss_weight=1.0)))
