_base_ = '../../baseline/yolox_s_8xb8-300e_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='YOLOX',
    teacher=dict(
        config='mmdet::yolox/yolox_l_8xb8-300e_coco.py', checkpoint='auto'))
