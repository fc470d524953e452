# A score of this head predicts class and IoU together. There is no formula for
# its calibration. Fit a calibrator to the teacher first:
# python tools/calibrate_teacher.py \
#     mmdet::yolox/yolox_l_8xb8-300e_coco.py auto \
#     --calibrator PlattScaling --out work_dirs/yolox_l_8xb8-300e_coco
_base_ = '../_base_/distilled/yolox_s_l_8xb8-300e_coco.py'

model = dict(
    teacher=dict(
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/yolox_l_8xb8-300e_coco/'
            'teacher_calibration.json')),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
