# Scenes of handwritten digits, see tools/dataset_converters/digits_to_coco.py
_base_ = './small_coco.py'

data_root = 'data/digits/'
metainfo = dict(classes=tuple('0123456789'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # No flips: a mirrored 2 is not a 2.
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # Keeps the image size; mmdet's heads need the scale factor that it sets.
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor')),
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img='test/'),
        metainfo=metainfo,
        pipeline=test_pipeline))

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
