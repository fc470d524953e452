_base_ = './faster-rcnn_r18-quarter_fpn_pkd-r18-half_24e_digits.py'

model = dict(
    distill_losses=dict(
        _delete_=True,
        loss_mgd=dict(
            type='MGDLoss',
            student_channels=[32] * 5,
            teacher_channels=[64] * 5)))
