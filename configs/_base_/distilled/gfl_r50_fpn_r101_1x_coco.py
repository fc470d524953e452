_base_ = '../../baseline/gfl_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='GFL',
    teacher=dict(
        config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint='auto'))
