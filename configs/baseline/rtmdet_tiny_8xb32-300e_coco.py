# mmdet has no 1x schedule of RTMDet: this is its own, 300 epochs of 8 x 32
# images.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

# Calibration measured beside AP, checkpoints whole.
val_evaluator = [
    _base_.val_evaluator,
    dict(
        type='tcal_det.DetectionCalibrationMetric',
        ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='tcal_det.AtomicCheckpointHook'))
