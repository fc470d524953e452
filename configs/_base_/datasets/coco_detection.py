# COCO as in mmdet; calibration is measured in addition to AP.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file='data/coco/annotations/instances_val2017.json',
        metric='bbox'),
    dict(
        type='tcal_det.DetectionCalibrationMetric',
        ann_file='data/coco/annotations/instances_val2017.json'),
]
test_evaluator = val_evaluator
