# A score of this head predicts class and IoU together. There is no formula for
# its calibration. Fit a calibrator to the teacher first:
# python tools/calibrate_teacher.py \
#     mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py auto \
#     --calibrator PlattScaling --out work_dirs/rtmdet_m_8xb32-300e_coco
_base_ = '../_base_/distilled/rtmdet_tiny_m_8xb32-300e_coco.py'

model = dict(
    teacher=dict(
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/rtmdet_m_8xb32-300e_coco/'
            'teacher_calibration.json')),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
