# Boxes and the objectness of the RPN are distilled in addition to the
# calibrated logits. The weight 10 is mmdet's weight for a GIoU loss of an RoI
# head.
_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_kd_box=dict(type='BoxDistillationLoss', loss_weight=10.0),
        loss_kd_rpn=dict(type='RPNDistillationLoss', loss_weight=1.0)))
