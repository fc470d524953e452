# Several methods at once: their losses are added.
_base_ = './faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_kd_dist=dict(type='DISTLoss', loss_weight=0.5),
        loss_kd_relation=dict(
            type='MLLDLoss', instance_weight=0.0, class_weight=0.004)))
