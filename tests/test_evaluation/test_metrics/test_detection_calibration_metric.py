import json
import logging
import math
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmdet.evaluation import CocoMetric
from mmdet.utils import register_all_modules
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from tcal_det.engine.training import leave_process_group
from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.evaluation.functional import (detections_from_coco,
                                            evaluate_detections,
                                            ground_truth_from_coco)
from tcal_det.evaluation.metrics import DetectionCalibrationMetric
from tcal_det.registry import METRICS
from tests.processes import run_ranks
from tests.test_evaluation.test_metrics.metric_samples import (ann_file,
                                                               classes_of,
                                                               samples_of)

KEYS = ('d_ece d_ece_over d_ece_under d_ece_coverage laece laece_0 laace_0 '
        'lrp_0 lrp_0_loc lrp_0_fp lrp_0_fn olrp olrp_loc olrp_fp '
        'olrp_fn').split()
TIGHT = dict(rel=0, abs=1e-9, nan_ok=True)


@pytest.fixture
def scene(golden):

    def read(name, dtype=torch.float64):
        annotations = golden(f'{name}_gt.json')
        return (samples_of(annotations, golden(f'{name}_dt.json'),
                           dtype), classes_of(annotations))

    return read


def evaluate(metric, samples, classes, batch_size=1):
    metric.dataset_meta = dict(classes=classes)
    for start in range(0, len(samples), batch_size):
        metric.process({}, samples[start:start + batch_size])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
@pytest.mark.parametrize('with_file', [True, False])
def test_golden(name, with_file, scene, golden_figures):
    metric = METRICS.build(
        dict(
            type='tcal_det.DetectionCalibrationMetric',
            ann_file=ann_file(name) if with_file else None))
    figures = evaluate(metric, *scene(name))
    assert list(figures) == [f'calib/{key}' for key in KEYS]
    assert figures == pytest.approx(
        {
            f'calib/{key}': value
            for key, value in golden_figures(name).items()
        }, **TIGHT)


def test_batches_do_not_matter(scene):
    samples, classes = scene('det_ties')
    metric = DetectionCalibrationMetric(ann_file('det_ties'))
    one = evaluate(metric, samples, classes, batch_size=1)
    assert one == evaluate(metric, samples, classes, batch_size=5)


def test_permuted_images_change_nothing(scene):
    samples, classes = scene('det_ties')
    metric = DetectionCalibrationMetric(ann_file('det_ties'))
    order = np.random.default_rng(0).permutation(len(samples))
    assert evaluate(metric, [samples[i] for i in order],
                    classes) == pytest.approx(
                        evaluate(metric, samples, classes), **TIGHT)


def test_two_ranks_equal_one(scene, monkeypatch):
    """11 images on 2 ranks: the sampler repeats one, which is dropped."""
    samples, classes = scene('det_ties')
    samples = samples[:11]
    alone = evaluate(
        DetectionCalibrationMetric(ann_file('det_ties')), samples, classes)

    padded = samples + samples[:1]
    ranks = [DetectionCalibrationMetric(ann_file('det_ties')) for _ in '12']
    for rank, metric in enumerate(ranks):
        metric.dataset_meta = dict(classes=classes)
        metric.process({}, padded[rank::2])
    parts = [list(metric.results) for metric in ranks]

    def collect(results, size, *args, **kwargs):
        ordered = [one for pair in zip(*parts) for one in pair]
        return ordered[:size]

    monkeypatch.setattr('mmengine.evaluator.metric.collect_results', collect)
    assert ranks[0].evaluate(len(samples)) == alone


def evaluate_half(rank, samples, classes, folder):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    metric = DetectionCalibrationMetric(ann_file('det_ties'))
    metric.dataset_meta = dict(classes=classes)
    metric.process({}, samples[rank::2])
    torch.save(metric.evaluate(len(samples)), f'{folder}/{rank}')
    leave_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(scene, tmp_path):
    samples, classes = scene('det_ties')
    alone = evaluate(
        DetectionCalibrationMetric(ann_file('det_ties')), samples, classes)
    run_ranks(evaluate_half, samples, classes, str(tmp_path))
    for rank in (0, 1):
        assert torch.load(tmp_path / str(rank)) == alone


def test_sees_what_coco_metric_writes(scene, tmp_path):
    """float32 boxes and scores, and categories in CocoMetric's order."""
    samples, classes = scene('det_ties', torch.float32)
    # Thirds are no float32: a box that is subtracted there differs.
    for sample in samples:
        sample['pred_instances']['bboxes'] += 1 / 3
    coco = CocoMetric(
        ann_file=ann_file('det_ties'), outfile_prefix=str(tmp_path / 'coco'))
    evaluate(coco, samples, classes)
    with open(ann_file('det_ties')) as file:
        ground_truth = ground_truth_from_coco(json.load(file))
    with open(tmp_path / 'coco.bbox.json') as file:
        written = detections_from_coco(json.load(file), ground_truth)
    with pytest.warns(UserWarning, match='no cell of score and position'):
        report = evaluate_detections(ground_truth, written)

    metric = DetectionCalibrationMetric(ann_file('det_ties'))
    figures = evaluate(metric, samples, classes)
    assert figures == {f'calib/{key}': report.overall[key] for key in KEYS}


def test_classes_are_a_subset_in_file_order(tmp_path, golden):
    """As CocoMetric: labels count the file's categories among the classes."""
    annotations, results = golden('det_small_gt.json'), golden(
        'det_small_dt.json')
    annotations['categories'] = annotations['categories'][::-1]
    path = str(tmp_path / 'gt.json')
    with open(path, 'w') as file:
        json.dump(annotations, file)
    kept = [one for one in annotations['categories'] if one['name'] != 'b']
    fewer = dict(
        annotations,
        categories=kept,
        annotations=[
            one for one in annotations['annotations']
            if one['category_id'] != 3
        ])
    samples = samples_of(fewer,
                         [one for one in results if one['category_id'] != 3])
    # Written in another order than the file's.
    classes = tuple(one['name'] for one in kept[::-1])
    figures = evaluate(DetectionCalibrationMetric(path), samples, classes)
    # By hand: class a .323636 (see the golden notes), class c exactly 0.
    by_hand = (.08 + .83 + .098182 + .35 + .26) / 5
    assert figures['calib/laece_0'] == pytest.approx(by_hand / 2, abs=1e-6)
    with open(path) as file:
        expected = CocoMetric(ann_file=path)._coco_api.get_cat_ids(
            cat_names=classes)
    assert [one['id'] for one in kept] == expected == [7, 1]


def test_perfect_detections_have_no_error(golden):
    annotations = golden('det_ties_gt.json')
    annotations['annotations'] = [
        one for one in annotations['annotations'] if not one['iscrowd']
    ]
    results = [dict(one, score=1.0) for one in annotations['annotations']]
    figures = evaluate(DetectionCalibrationMetric(),
                       samples_of(annotations, results),
                       classes_of(annotations))
    for key in KEYS:
        expected = 1.0 if key == 'd_ece_coverage' else 0.0
        assert figures[f'calib/{key}'] == pytest.approx(expected, abs=1e-12)


def test_half_wrong_at_score_one():
    sample = dict(
        img_id=0,
        ori_shape=(100, 100),
        pred_instances=dict(
            bboxes=torch.tensor([[0., 0, 10, 10], [50, 50, 60, 60]]),
            scores=torch.ones(2),
            labels=torch.zeros(2, dtype=torch.long)),
        instances=[dict(bbox=[0, 0, 10, 10], bbox_label=0, ignore_flag=0)])
    figures = evaluate(DetectionCalibrationMetric(), [sample], ('a', ))
    assert figures['calib/d_ece'] == figures['calib/d_ece_over'] == 0.5


@pytest.fixture
def log():
    """Everything that is logged."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_no_detections_are_nan_and_said_so(scene, golden, log):
    annotations = golden('det_small_gt.json')
    figures = evaluate(
        DetectionCalibrationMetric(ann_file('det_small')),
        samples_of(annotations, []), classes_of(annotations))
    for key in ('d_ece', 'd_ece_over', 'laece', 'laece_0', 'laace_0'):
        assert math.isnan(figures[f'calib/{key}'])
    assert figures['calib/lrp_0'] == figures['calib/olrp'] == 1
    message, = (line for line in log if 'undefined (NaN)' in line)
    assert 'no detection is counted' in message and 'd_ece_over' in message


def test_no_image_at_all(log):
    """A run that was stopped before its first batch."""
    metric = DetectionCalibrationMetric()
    metric.dataset_meta = dict(classes=('a', ))
    assert all(map(math.isnan, metric.evaluate(0).values()))


def test_classwise_table(scene, log):
    samples, classes = scene('det_small')
    evaluate(
        DetectionCalibrationMetric(ann_file('det_small'), classwise=True),
        samples, classes)
    table, = (line for line in log if 'LaECE_0' in line)
    row, = (line for line in table.splitlines() if line.startswith('| a'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    # 3 objects, 5 counted detections; LaECE_0 by hand, see the golden notes.
    assert cells[:3] == ['a', '3', '5'] and cells[6] == '0.324'


def test_report_file(scene, tmp_path):
    samples, classes = scene('det_small')
    prefix = str(tmp_path / 'new' / 'run')
    figures = evaluate(
        DetectionCalibrationMetric(
            ann_file('det_small'), outfile_prefix=prefix), samples, classes)
    with open(f'{prefix}.calibration.json') as file:
        report = json.load(file)
    assert set(report) == {
        'settings', 'counts', 'overall', 'per_class', 'bins'
    }
    assert report['overall']['d_ece'] == figures['calib/d_ece']
    assert os.listdir(tmp_path / 'new') == ['run.calibration.json']


def test_score_threshold(scene):
    samples, classes = scene('det_small')
    figures = evaluate(
        DetectionCalibrationMetric(ann_file('det_small'), score_thr=0.76),
        samples, classes)
    # Kept: .92 TP, .83 FP, .76 TP and 1.0 TP, by hand.
    assert figures['calib/d_ece'] == pytest.approx(
        (abs(.92 + 1.0 - 2) + .83 + abs(.76 - 1)) / 4)


def test_beside_coco_metric_the_best_is_still_coco(scene):
    register_all_modules()  # and makes mmdet the default scope
    evaluator = Evaluator([
        dict(type='mmdet.CocoMetric', ann_file=ann_file('det_small')),
        dict(
            type='tcal_det.DetectionCalibrationMetric',
            ann_file=ann_file('det_small'))
    ])
    samples, classes = scene('det_small')
    evaluator.dataset_meta = dict(classes=classes)
    for metric in evaluator.metrics:
        metric.process({}, samples)
    figures = evaluator.evaluate(len(samples))
    # What `save_best='auto'` takes.
    assert next(iter(figures)) == 'coco/bbox_mAP'
    assert 'calib/d_ece' in figures


@pytest.mark.parametrize('options, error, message', [
    (dict(ann_file='gone.json'), MissingFileError, "'gone.json'"),
    (dict(d_ece_bins=0), InvalidValueError, '`d_ece_bins`'),
    (dict(laece_iou_thr=1.0), InvalidValueError, '`laece_iou_thr`'),
    (dict(score_thr='best'), InvalidValueError, '`score_thr`'),
    (dict(score_thr=[0.3]), InvalidTypeError, '`score_thr`'),
    (dict(ann_file=ann_file('det_small'),
          score_thr={'9': 0.3}), InvalidValueError, 'category ids'),
    (dict(class_wise=True), InvalidTypeError,
     r"among \['ann_file', 'classwise', .*'max_dets'.*but got `class_wise`"),
])
def test_mistakes_are_found_before_the_training(options, error, message):
    with pytest.raises(error, match=message):
        DetectionCalibrationMetric(**options)


def test_results_of_all_ranks_are_collected_in_a_folder(tmp_path):
    metric = DetectionCalibrationMetric(collect_dir=str(tmp_path))
    assert metric.collect_dir == str(tmp_path)


def test_truncated_annotations(tmp_path):
    path = tmp_path / 'gt.json'
    path.write_text('{"images": [')
    with pytest.raises(InvalidValueError, match='cannot be read as JSON'):
        DetectionCalibrationMetric(str(path))


def test_samples_without_ground_truth(scene):
    samples, _ = scene('det_small')
    del samples[0]['instances']
    with pytest.raises(InvalidValueError, match='`meta_keys`'):
        DetectionCalibrationMetric().process({}, samples)


def test_label_without_a_category(scene):
    samples, _ = scene('det_small')
    with pytest.raises(InvalidValueError, match='metainfo.classes'):
        evaluate(
            DetectionCalibrationMetric(ann_file('det_small')), samples,
            ('a', ))


@pytest.mark.parametrize('changes, part', [
    (dict(labels=torch.tensor([0, -1])), 'label must not be negative'),
    (dict(labels=torch.tensor([0., 1.])), 'labels must be whole numbers'),
    (dict(labels=torch.tensor([0])), 'must have the shapes'),
    (dict(scores=torch.tensor([0.5, float('nan')])), 'score must be in'),
    (dict(bboxes=torch.zeros(2, 5)), 'must have the shapes'),
    (dict(bboxes=torch.tensor([[0, 0, 1, 1], [0, 0, math.inf, 1]])), 'finite'),
])
@pytest.mark.parametrize('with_file', [True, False])
def test_wrong_predictions_are_named(changes, part, with_file):
    sample = dict(
        img_id=2,
        ori_shape=(100, 100),
        pred_instances=dict(
            bboxes=torch.zeros(2, 4),
            scores=torch.zeros(2),
            labels=torch.zeros(2, dtype=torch.long)),
        instances=[])
    sample['pred_instances'].update(changes)
    metric = DetectionCalibrationMetric(
        ann_file('det_small') if with_file else None)
    with pytest.raises((InvalidValueError, InvalidTypeError),
                       match='predictions of image 2: .*' + part):
        metric.process({}, [sample])


@pytest.mark.parametrize('with_file', [True, False])
def test_an_image_that_is_predicted_twice(scene, with_file):
    """Its detections would count twice."""
    samples, classes = scene('det_small')
    metric = DetectionCalibrationMetric(
        ann_file('det_small') if with_file else None)
    with pytest.raises(
            InvalidValueError,
            match=r'`predictions\[0\]` and `predictions\[2\]`.* image 1'):
        evaluate(metric, [*samples, samples[0]], classes)


def test_image_ids_are_compared_exactly(golden):
    """Joined by numpy, the float would round the others to one image."""
    annotations, results = golden('det_small_gt.json'), golden(
        'det_small_dt.json')
    annotations['images'].append(dict(annotations['images'][0], id=3))
    expected = evaluate(DetectionCalibrationMetric(),
                        samples_of(annotations, results),
                        classes_of(annotations))
    new_id = {1: 2**53, 2: 2**53 + 1, 3: 0.5 + 2.5}
    samples = samples_of(annotations, results)
    for sample in samples:
        sample['img_id'] = new_id[sample['img_id']]
    assert evaluate(DetectionCalibrationMetric(), samples,
                    classes_of(annotations)) == pytest.approx(
                        expected, rel=0, abs=1e-12)
