_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_12e_bccd.py'

# Classic KD: uncalibrated logits, softened on both sides, loss times T^2.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(loss_kd_cls=dict(temperature=4.0)))
