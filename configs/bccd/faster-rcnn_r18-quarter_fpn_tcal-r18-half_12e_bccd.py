_base_ = './faster-rcnn_r18-quarter_fpn_12e_bccd.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='configs/bccd/faster-rcnn_r18-half_fpn_24e_bccd.py',
        checkpoint='work_dirs/bccd/teacher/epoch_24.pth',
        calibrator=dict(type='TemperatureScaling', temperature=1.5)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
