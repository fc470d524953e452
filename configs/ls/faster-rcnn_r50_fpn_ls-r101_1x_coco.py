_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    # A temperature of the teacher would have no effect on this loss.
    teacher=dict(calibrator=None),
    distill_losses=dict(
        loss_kd_cls=dict(
            _delete_=True, type='LogitStandardizationLoss', temperature=2.0)))
