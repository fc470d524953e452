_base_ = '../_base_/distilled/faster-rcnn_mobilenetv2_fpn_r50_ms-180k_coco.py'

model = dict(
    teacher=dict(calibrator=dict(type='TemperatureScaling', temperature=1.5)),
    distill_losses=dict(
        loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
