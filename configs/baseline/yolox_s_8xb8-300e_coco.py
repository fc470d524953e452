# mmdet has no 1x schedule for YOLOX: this is mmdet's schedule, 300 epochs with
# 8 x 8 images.
_base_ = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'

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
