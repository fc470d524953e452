_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    # The weight needs raw logits; the loss has its own temperature.
    teacher=dict(calibrator=None),
    distill_losses=dict(
        loss_kd_cls=dict(_delete_=True, type='WTTMLoss', temperature=1.5)))
