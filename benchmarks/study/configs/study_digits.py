# The study's data: 2000 / 300 / 600 scenes of 128x128, of which a teacher sees
# all and a student the first 200. benchmarks/study/run.py writes them.
_base_ = '../../../configs/_base_/digits.py'

data_root = 'data/digits_study/'
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root))
val_evaluator = [
    dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json'),
    dict(
        type='tcal_det.DetectionCalibrationMetric',
        ann_file=data_root + 'annotations/val.json'),
]
test_evaluator = [
    dict(type='CocoMetric', ann_file=data_root + 'annotations/test.json'),
    dict(
        type='tcal_det.DetectionCalibrationMetric',
        ann_file=data_root + 'annotations/test.json'),
]
