_base_ = '../tcal/faster-rcnn_r18_fpn_tcal-r101_ms-180k_coco.py'

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(loss_kd_cls=dict(temperature=4.0)))
