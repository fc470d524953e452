# Boxes and the objectness of the RPN are distilled in addition to the
# calibrated logits.
_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_16e_digits.py'

model = dict(
    distill_losses=dict(
        loss_kd_box=dict(type='BoxDistillationLoss', loss_weight=10.0),
        loss_kd_rpn=dict(type='RPNDistillationLoss', loss_weight=1.0)))
