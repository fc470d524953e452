# The box edges are distilled in addition to the calibrated logits. Fit the
# calibrator to the teacher first:
# python tools/calibrate_teacher.py \
#     mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py auto \
#     --calibrator PlattScaling --out work_dirs/gfl_r101_fpn_ms-2x_coco
_base_ = '../tcal/gfl_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        loss_ld=dict(type='LocalizationDistillationLoss', loss_weight=1.0)))
