_base_ = '../tcal/fcos_r50-caffe_fpn_gn-head_tcal-r101_1x_coco.py'

# KD of a sigmoid head, after BCKD and CrossKD: uncalibrated logits, and a
# small weight for classes on which both models agree.
model = dict(
    teacher=dict(calibrator=None),
    distill_losses=dict(
        loss_kd_cls=dict(type='QualityFocalKDLoss', loss_weight=1.0)))
