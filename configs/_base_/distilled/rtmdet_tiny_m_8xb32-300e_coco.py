_base_ = '../../baseline/rtmdet_tiny_8xb32-300e_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='RTMDet',
    teacher=dict(
        config='mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py', checkpoint='auto'))
