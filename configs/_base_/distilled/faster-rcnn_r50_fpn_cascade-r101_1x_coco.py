# The teacher's logits are the mean over its stages, as in its detections.
_base_ = '../../baseline/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='mmdet::cascade_rcnn/cascade-rcnn_r101_fpn_20e_coco.py',
        checkpoint='auto'))
