_base_ = '../../baseline/mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='MaskRCNN',
    teacher=dict(
        config='mmdet::seesaw_loss/'
        'mask-rcnn_r101_fpn_seesaw-loss_random-ms-2x_lvis-v1.py',
        checkpoint='auto'))
