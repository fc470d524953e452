_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    # The loss has its own temperatures.
    teacher=dict(calibrator=None),
    distill_losses=dict(
        loss_kd_cls=dict(
            _delete_=True, type='ISATSLoss', target_temperature=4.0)))
