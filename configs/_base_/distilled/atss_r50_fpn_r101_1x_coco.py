_base_ = '../../baseline/atss_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='ATSS',
    teacher=dict(
        config='mmdet::atss/atss_r101_fpn_1x_coco.py', checkpoint='auto'))
