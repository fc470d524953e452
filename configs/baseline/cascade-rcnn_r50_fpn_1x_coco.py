_base_ = 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'

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
