# The weight is not tuned; the weight of the authors is not known.
_base_ = '../pkd/faster-rcnn_r50_fpn_pkd-r101_1x_coco.py'

model = dict(
    distill_losses=dict(
        _delete_=True,
        loss_dpk=dict(type='DPKLoss', student_channels=[256] * 5)))
