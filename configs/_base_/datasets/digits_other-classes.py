# Digit scenes with other annotations: eight of the ten digits in another
# order, and two classes without objects. Made with
# tools/dataset_converters/digits_to_coco.py --out data/digits_other-classes
# --classes 7 3 ten 0 9 4 1 eleven 6 2
_base_ = './digits.py'

data_root = 'data/digits_other-classes/'
metainfo = dict(
    classes=('7', '3', 'ten', '0', '9', '4', '1', 'eleven', '6', '2'))

train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
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
