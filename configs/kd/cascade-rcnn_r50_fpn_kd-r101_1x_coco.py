_base_ = '../tcal/cascade-rcnn_r50_fpn_tcal-r101_1x_coco.py'

# Classic KD: the logits as they are, softened on both sides, times T^2.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(loss_kd_cls=dict(temperature=4.0)))
