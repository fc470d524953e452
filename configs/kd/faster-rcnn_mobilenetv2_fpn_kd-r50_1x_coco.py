_base_ = '../tcal/faster-rcnn_mobilenetv2_fpn_tcal-r50_1x_coco.py'

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(loss_kd_cls=dict(temperature=4.0)))
