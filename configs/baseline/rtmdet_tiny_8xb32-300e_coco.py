# mmdet has no 1x schedule for RTMDet: this is mmdet's schedule, 300 epochs
# with 8 x 32 images.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

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
