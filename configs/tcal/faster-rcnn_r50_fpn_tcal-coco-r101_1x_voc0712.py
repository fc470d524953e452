# A teacher of COCO's 80 classes: 16 of VOC's 20 classes have the same name,
# and four are mapped here. The other 60 are merged with background.
_base_ = '../baseline/faster-rcnn_r50_fpn_1x_voc0712.py'

model = dict(
    type='tcal_det.CalibratedTeacherDistiller',
    student_type='FasterRCNN',
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_ms-3x_coco.py',
        checkpoint='auto',
        calibrator=dict(type='TemperatureScaling', temperature=1.5),
        classes=dict(
            airplane='aeroplane',
            couch='sofa',
            motorcycle='motorbike',
            tv='tvmonitor')),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
