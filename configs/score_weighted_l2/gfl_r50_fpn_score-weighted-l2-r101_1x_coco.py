# The weight is not tuned.
#
# A score of this head predicts class and IoU together. There is no formula for
# its calibration. Fit a calibrator to the teacher first:
# python tools/calibrate_teacher.py \
#     mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py auto \
#     --calibrator PlattScaling --out work_dirs/gfl_r101_fpn_ms-2x_coco
_base_ = '../_base_/distilled/gfl_r50_fpn_r101_1x_coco.py'

model = dict(
    teacher=dict(
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/gfl_r101_fpn_ms-2x_coco/'
            'teacher_calibration.json')),
    distill_losses=dict(loss_score_weighted=dict(type='ScoreWeightedL2Loss')))
