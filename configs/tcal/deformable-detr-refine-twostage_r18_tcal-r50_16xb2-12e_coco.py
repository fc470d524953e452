# Queries of teacher and student are matched. The calibrator has alpha and
# gamma of the teacher's focal loss.
_base_ = '../baseline/deformable-detr-refine-twostage_r18_16xb2-12e_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='DeformableDETR',
    teacher=dict(
        config='mmdet::deformable_detr/'
        'deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
        checkpoint='auto',
        calibrator=dict(type='FocalPosterior', alpha=0.25, gamma=2.0)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitBinaryKLDivLoss', loss_weight=1.0)))
