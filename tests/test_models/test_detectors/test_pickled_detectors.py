"""Detectors with something mixed in pickle as the plain one does."""
import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch

from tcal_det.fileio import write_json_atomically
from tcal_det.recalibration import ClassRecalibration, PlattMap, Recalibration
from tcal_det.registry import MODELS

REPOSITORY = os.path.abspath(
    os.path.join(os.path.dirname(__file__), '..', '..', '..'))
FIELDS = ('bboxes', 'scores', 'labels')
# What a reader does who knows no more than the files' names.
READ_AND_PREDICT = """
import sys
import torch
torch.set_num_threads(1)
for path in sys.argv[1:]:
    model = torch.load(path, weights_only=False)
    data = torch.load(path + '.data', weights_only=False)
    with torch.no_grad():
        results = model(**data, mode='predict')
    torch.save([[result.pred_instances[field]
                 for field in ('bboxes', 'scores', 'labels')]
                for result in results], path + '.results')
"""


@pytest.fixture
def calibrated_cfg(detector_cfg, tmp_path):
    """A RecalibratedDetector's config."""
    path = str(tmp_path / 'calibration.json')
    classes = tuple(
        ClassRecalibration(label, name) for label, name in enumerate('abc'))
    write_json_atomically(
        path,
        Recalibration({}, PlattMap(scale=0.5, bias=-1.0),
                      classes).to_json_dict())
    cfg = detector_cfg()
    cfg.update(
        type='tcal_det.RecalibratedDetector', detector_type='FasterRCNN')
    cfg.test_cfg.recalibrator = dict(load_from=path)
    return cfg


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    model.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.3)
    return model.eval()


def predict(model, data):
    with torch.no_grad():
        results = model(**copy.deepcopy(data), mode='predict')
    return [[result.pred_instances[field] for field in FIELDS]
            for result in results]


def assert_same_detections(results, others):
    assert sum(len(scores) for _, scores, _ in results) > 10
    for result, other in zip(results, others):
        assert all(map(torch.equal, result, other))


def test_file_of_the_whole_model_in_a_fresh_process(distiller_cfg,
                                                    calibrated_cfg, batch,
                                                    tmp_path):
    paths, expected = [], []
    for name, cfg in (('distiller', distiller_cfg()), ('calibrated',
                                                       calibrated_cfg)):
        model = build(cfg)
        data = model.data_preprocessor(batch(), False)
        paths.append(str(tmp_path / name))
        torch.save(model, paths[-1])
        torch.save(data, paths[-1] + '.data')
        expected.append(predict(model, data))
    subprocess.run([sys.executable, '-c', READ_AND_PREDICT, *paths],
                   env=dict(
                       os.environ, PYTHONPATH=REPOSITORY, OMP_NUM_THREADS='1'),
                   check=True)
    for path, results in zip(paths, expected):
        assert_same_detections(results, torch.load(path + '.results'))


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_copy_by_pickle(calibrated_cfg, batch, protocol):
    model = build(calibrated_cfg)
    copied = pickle.loads(pickle.dumps(model, protocol))
    assert type(copied) is type(model)
    data = model.data_preprocessor(batch(), False)
    assert_same_detections(predict(model, data), predict(copied, data))


@pytest.mark.parametrize('duplicate', [
    lambda model: pickle.loads(pickle.dumps(model)),
    copy.deepcopy,
])
def test_copy_holds_no_teacher_and_learns_from_it(distiller_cfg, training_step,
                                                  duplicate):
    model = build(distiller_cfg())
    copied = duplicate(model)
    assert model.teacher.is_built and not copied.teacher.is_built
    losses, others = (
        training_step(detector)[0] for detector in (model, copied))
    assert copied.teacher.is_built
    assert losses['loss_kd_cls'] > 0
    assert torch.equal(losses['loss_kd_cls'], others['loss_kd_cls'])


def test_pickle_is_no_larger_than_the_plain_detectors(distiller_cfg,
                                                      detector_cfg):
    """Its teacher has more than twice the parameters."""
    plain, model = build(detector_cfg()), build(distiller_cfg())
    sizes = [len(pickle.dumps(detector)) for detector in (plain, model)]
    assert sizes[1] < 1.1 * sizes[0]


def test_subclass_of_a_made_class_keeps_its_own_class(calibrated_cfg,
                                                      monkeypatch):
    """What a user derives has a name that pickle finds."""
    model = build(calibrated_cfg)
    derived = type('Derived', (type(model), ), dict(__module__=__name__))
    monkeypatch.setattr(
        sys.modules[__name__], 'Derived', derived, raising=False)
    model.__class__ = derived
    assert type(pickle.loads(pickle.dumps(model))) is derived
