import pytest
from mmdet.datasets.transforms import PackDetInputs
from mmengine.config import Config

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.metrics import DetectionCalibrationMetric
from tcal_det.evaluation.metrics.annotation_check import \
    check_metric_annotations

METRIC = dict(type='tcal_det.DetectionCalibrationMetric')
LOAD = dict(type='LoadImageFromFile')
PACK = dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape'))
PACK_ALL = dict(
    type='mmdet.PackDetInputs', meta_keys=('img_id', 'ori_shape', 'instances'))


def config(evaluator, dataset):
    return Config(
        dict(val_evaluator=evaluator, val_dataloader=dict(dataset=dataset)))


def dataset(*pipeline):
    return dict(type='CocoDataset', pipeline=list(pipeline))


@pytest.mark.parametrize('evaluator', [
    METRIC,
    [dict(type='CocoMetric'), METRIC],
    dict(type='Evaluator', metrics=[METRIC]),
    dict(METRIC, ann_file=None),
    dict(type=DetectionCalibrationMetric),
])
@pytest.mark.parametrize('data', [
    dataset(LOAD, PACK),
    dataset(LOAD, dict(type=PackDetInputs)),
    dict(type='RepeatDataset', times=2, dataset=dataset(LOAD, PACK)),
    dict(
        type='ConcatDataset',
        datasets=[dataset(PACK_ALL), dataset(LOAD, PACK)]),
    dict(type='MultiImageMixDataset', dataset=dataset(LOAD), pipeline=[PACK]),
])
def test_neither_file_nor_instances(evaluator, data):
    cfg = config(evaluator, data)
    with pytest.raises(InvalidValueError) as caught:
        check_metric_annotations(cfg, 'val')
    for part in ('`val_evaluator`', '`ann_file`', '`meta_keys`',
                 '`val_dataloader`'):
        assert part in str(caught.value)
    # A run that does not validate, or not on this split.
    check_metric_annotations(cfg, 'test')
    check_metric_annotations(cfg)


@pytest.mark.parametrize('evaluator, data', [
    (dict(METRIC, ann_file='gt.json'), dataset(LOAD, PACK)),
    (dict(type='CocoMetric'), dataset(LOAD, PACK)),
    (METRIC, dataset(LOAD, PACK_ALL)),
    (METRIC, dict(type='RepeatDataset', dataset=dataset(LOAD, PACK_ALL))),
    (METRIC, dataset(LOAD, dict(type='PackInAnotherWay'))),
    (METRIC, None),
    (None, dataset(LOAD, PACK)),
])
def test_nothing_is_known_to_be_missing(evaluator, data):
    check_metric_annotations(config(evaluator, data), 'val')
