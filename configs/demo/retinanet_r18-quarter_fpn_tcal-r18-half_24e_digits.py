# tools/calibrate_teacher.py fits the calibrator, see docs/evidence/results.md.
_base_ = '../_base_/distilled/retinanet_r18-quarter_fpn_r18-half_24e_digits.py'

model = dict(
    teacher=dict(
        calibrator=dict(
            type='PlattScaling',
            load_from='work_dirs/demo/retinanet/calibration/'
            'teacher_calibration.json')),
    distill_losses=dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss')))
