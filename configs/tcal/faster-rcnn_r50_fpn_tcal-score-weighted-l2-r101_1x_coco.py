_base_ = './faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(
    distill_losses=dict(loss_score_weighted=dict(type='ScoreWeightedL2Loss')))
