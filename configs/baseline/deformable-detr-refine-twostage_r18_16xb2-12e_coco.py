_base_ = 'mmdet::deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py'  # noqa: E501

model = dict(
    backbone=dict(
        depth=18,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[128, 256, 512]))

# 12 epochs, like mmdet's DINO, instead of 50.
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[11],
        gamma=0.1)
]

# Calibration is measured in addition to AP; checkpoints are written
# atomically.
val_evaluator = [
    _base_.val_evaluator,
    dict(
        type='tcal_det.DetectionCalibrationMetric',
        ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='tcal_det.AtomicCheckpointHook'))
