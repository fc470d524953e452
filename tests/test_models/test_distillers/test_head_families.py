"""Students of every family of heads: copies, two processes, other models."""
import copy
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from head_families import (build, detector_cfg, distiller_cfg,
                           write_teacher)
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.registry import init_default_scope

from tcal_det.engine.student_checkpoint import publish_student
from tcal_det.engine.training import leave_process_group
from tcal_det.evaluation.score_calibration import (ClassCalibration,
                                                   ScoreCalibration)
from tcal_det.evaluation.score_maps import PlattMap
from tcal_det.fileio import write_json_atomically
from tcal_det.registry import MODELS

FIELDS = ('bboxes', 'scores', 'labels')
LEARNING_RATE = 0.01
DENSE_AND_CASCADE = pytest.mark.parametrize(
    'family', ['retinanet', 'gfl', 'rtmdet', 'cascade'])


@pytest.fixture
def student(tmp_path):
    """A distilled student of a family, by its name."""

    def make(family):
        return build(
            distiller_cfg(family, write_teacher(tmp_path, family)), MODELS)

    return make


def predict(model, data):
    with torch.no_grad():
        results = model.eval()(**copy.deepcopy(data), mode='predict')
    return [[result.pred_instances[field] for field in FIELDS]
            for result in results]


def assert_same_detections(results, others):
    assert len(results) == len(others)
    assert sum(len(scores) for _, scores, _ in results) > 0
    for result, other in zip(results, others):
        assert all(map(torch.equal, result, other))


@pytest.mark.parametrize('duplicate', [
    copy.deepcopy,
    lambda model: pickle.loads(pickle.dumps(model)),
    lambda model: ExponentialMovingAverage(model).module,
], ids=['deepcopy', 'pickle', 'ema'])
@DENSE_AND_CASCADE
def test_copy_holds_no_teacher_and_learns_from_it(student, training_step,
                                                  batch, family, duplicate):
    model = student(family)
    before = training_step(model)[0]['loss_kd_cls']
    assert model.teacher.is_built and before > 0
    copied = duplicate(model)
    assert type(copied) is type(model)
    assert not copied.teacher.is_built
    assert list(copied.state_dict()) == list(model.state_dict())
    data = model.data_preprocessor(batch(), False)
    assert_same_detections(predict(model, data), predict(copied, data))
    terms = []
    for detector in (model, copied):
        loss, total = training_step(detector.requires_grad_(True))
        terms.append(loss['loss_kd_cls'])
        total.backward()
    assert copied.teacher.is_built
    assert copied.teacher.detector is not model.teacher.detector
    assert torch.equal(*terms) and terms[0] > 0
    for mine, its in zip(model.parameters(), copied.parameters()):
        assert mine.grad is its.grad is None or torch.equal(
            mine.grad, its.grad)


@DENSE_AND_CASCADE
def test_pickle_is_as_large_as_that_of_the_plain_detector(student, family):
    from mmdet.registry import MODELS as MMDET_MODELS
    model = student(family)
    model.teacher.build(model)
    plain = build(detector_cfg(family), MMDET_MODELS)
    sizes = [len(pickle.dumps(detector)) for detector in (plain, model)]
    assert sizes[1] < 1.1 * sizes[0]


@DENSE_AND_CASCADE
def test_calibrated_scores(student, batch, tmp_path, family):
    """Of ScoreCalibratedDetector, and of the distiller with its option."""
    score_map = PlattMap(scale=0.5, bias=-1.0)
    path = str(tmp_path / 'scores.json')
    write_json_atomically(
        path,
        ScoreCalibration(
            {}, score_map,
            tuple(
                ClassCalibration(label, name)
                for label, name in enumerate('abc'))).to_json_dict())
    model = student(family)
    data = model.data_preprocessor(batch(), False)
    expected = predict(model, data)
    cfg = detector_cfg(family)
    cfg.update(
        type='tcal_det.ScoreCalibratedDetector', detector_type=cfg.type)
    others = [cfg, distiller_cfg(family, dict(config='x', checkpoint='x'))]
    for cfg in others:
        cfg.test_cfg.score_calibrator = dict(load_from=path)
        calibrated = MODELS.build(cfg)
        calibrated.load_state_dict(model.state_dict())
        for before, after in zip(expected, predict(calibrated, data)):
            assert len(before[1]) > 0
            assert torch.equal(before[0], after[0])
            assert after[1].numpy() == pytest.approx(
                score_map(before[1].double().numpy()), rel=1e-6)
