_base_ = '../_base_/distilled/faster-rcnn_r50_fpn_r101_1x_coco.py'

model = dict(
    teacher=dict(calibrator=dict(type='TemperatureScaling', temperature=1.5)),
    distill_losses=dict(loss_kd_cls=dict(type='CMKDLoss')))
