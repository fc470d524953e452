_base_ = '../tcal/cascade-rcnn_r50_fpn_tcal-r101_1x_coco.py'

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(loss_kd_cls=dict(temperature=4.0)))
