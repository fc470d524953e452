_base_ = '../../baseline/cascade-rcnn_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='CascadeRCNN',
    teacher=dict(
        config='mmdet::cascade_rcnn/cascade-rcnn_r101_fpn_20e_coco.py',
        checkpoint='auto'))
