# The calibrator has alpha and gamma of the teacher's focal loss.
_base_ = '../baseline/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FCOS',
    teacher=dict(
        config='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
        checkpoint='auto',
        calibrator=dict(type='FocalPosterior', alpha=0.25, gamma=2.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
