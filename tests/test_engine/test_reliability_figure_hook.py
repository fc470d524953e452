"""Reliability diagrams that a validation sends to the visualizer."""
import os
import os.path as osp
from types import SimpleNamespace

import pytest
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmengine.visualization import Visualizer

from tcal_det.evaluation.functional import (detections_from_coco,
                                            evaluate_detections,
                                            ground_truth_from_coco)
from tcal_det.evaluation.metrics import DetectionCalibrationMetric
from tcal_det.registry import HOOKS

pytestmark = pytest.mark.filterwarnings('ignore:undefined')
ANNOTATIONS = dict(
    images=[dict(id=1, width=64, height=64)],
    categories=[dict(id=1, name='cat')],
    annotations=[
        dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 9, 9], iscrowd=0)
    ])


def runner_after_evaluation(tmp_path, name):
    """A runner whose metric has measured one detection."""
    metric = DetectionCalibrationMetric()
    ground_truth = ground_truth_from_coco(ANNOTATIONS)
    metric.report = evaluate_detections(
        ground_truth,
        detections_from_coco(
            [dict(image_id=1, category_id=1, bbox=[0, 0, 9, 9], score=.5)],
            ground_truth))
    visualizer = Visualizer.get_instance(
        name,
        vis_backends=[dict(type='LocalVisBackend')],
        save_dir=str(tmp_path))
    MessageHub.get_instance(name).update_info('iter', 7)
    evaluator = Evaluator([metric])
    return SimpleNamespace(
        visualizer=visualizer,
        val_evaluator=evaluator,
        test_evaluator=evaluator)


@pytest.mark.parametrize('when', ['after_val_epoch', 'after_test_epoch'])
def test_figures_of_each_calibration_metric_are_drawn(tmp_path, when):
    runner = runner_after_evaluation(tmp_path, f'figure-hook-{when}')
    hook = HOOKS.build(dict(type='tcal_det.ReliabilityFigureHook'))
    getattr(hook, when)(runner, {})
    images = sorted(name for _, _, names in os.walk(tmp_path) for name in names
                    if name.endswith('.png'))
    assert images == [
        'calib_reliability_iou_7.png', 'calib_reliability_precision_7.png'
    ]
    assert all(osp.getsize(path) > 1000 for path in tmp_path.rglob('*.png'))
