"""Students of every family of heads: copies, two processes, other models."""
import copy
import os
import pickle
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage

from tcal_det.engine.student_checkpoint import publish_student
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import write_json_atomically
from tcal_det.recalibration import ClassRecalibration, PlattMap, Recalibration
from tcal_det.registry import MODELS
from tests.head_families import (bbox_heads, build, detector_cfg,
                                 distiller_cfg, replaced, write_teacher)
from tests.processes import run_ranks
from tests.test_models.test_distillers.training_ranks import (
    build_for_training, train_one_half, training_loss)

FIELDS = ('bboxes', 'scores', 'labels')
DENSE_AND_CASCADE = pytest.mark.parametrize('family', ['retinanet', 'cascade'])


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


@pytest.mark.parametrize(
    'duplicate', [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: ExponentialMovingAverage(model).module,
    ],
    ids=['deepcopy', 'pickle', 'ema'])
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
    """Of RecalibratedDetector, and of the distiller with its option."""
    score_map = PlattMap(scale=0.5, bias=-1.0)
    path = str(tmp_path / 'scores.json')
    write_json_atomically(
        path,
        Recalibration({}, score_map,
                      tuple(
                          ClassRecalibration(label, name)
                          for label, name in enumerate('abc'))).to_json_dict())
    model = student(family)
    data = model.data_preprocessor(batch(), False)
    expected = predict(model, data)
    cfg = detector_cfg(family)
    cfg.update(type='tcal_det.RecalibratedDetector', detector_type=cfg.type)
    others = [cfg, distiller_cfg(family, dict(config='x', checkpoint='x'))]
    for cfg in others:
        cfg.test_cfg.recalibrator = dict(load_from=path)
        calibrated = MODELS.build(cfg)
        calibrated.load_state_dict(model.state_dict())
        for before, after in zip(expected, predict(calibrated, data)):
            assert len(before[1]) > 0
            assert torch.equal(before[0], after[0])
            assert after[1].numpy() == pytest.approx(
                score_map(before[1].double().numpy()), rel=1e-6)


def more_classes(model):
    for head in bbox_heads(model):
        head.num_classes = 4


@pytest.mark.parametrize('family, edit, words', [
    ('cascade',
     replaced('distill_losses.loss_kd_cls', type='QualityFocalKDLoss'),
     'QualityFocalKDLoss is made for sigmoid heads, but the student '
     'CascadeRCNN classifies with softmax: choose a loss for softmax heads'),
    ('gfl',
     replaced(
         'teacher.calibrator', type='TemperatureScaling', temperature=1.5),
     'must be made for sigmoid heads, the kind of the teacher GFL, but '
     'TemperatureScaling is for softmax: use PlattScaling'),
    ('gfl',
     replaced(
         'teacher.calibrator', type='TemperatureScaling',
         activation='sigmoid'),
     'TemperatureScaling must have `temperature`, or `load_from`, but has '
     'none: fit it with tools/calibrate_teacher.py'),
    ('cascade', more_classes,
     'the teacher CascadeRCNN has 3 and the student CascadeRCNN 4: give a'),
])
def test_bad_student(tmp_path, family, edit, words):
    cfg = distiller_cfg(family, write_teacher(tmp_path, family))
    edit(cfg)
    with pytest.raises(InvalidValueError, match=re.escape(words)):
        model = MODELS.build(cfg)
        model.teacher.build(model)


@pytest.mark.parametrize('family, other, transport, words', [
    ('cascade', 'gfl', 'same_samples',
     '`teacher.transport` must be possible for student and teacher, but got '
     "'same_samples' ('same_samples': the teacher GFL and the student "
     'CascadeRCNN have different samples: the teacher classifies priors and '
     "the student RoIs): use one of ['matched_predictions']"),
    ('gfl', 'retinanet', 'rois_at_boxes',
     'the teacher RetinaNet and the student GFL do not fit: the teacher '
     'classifies priors, and cannot classify given boxes'),
    ('gfl', 'faster', 'shared_queries', 'GFL classifies priors'),
])
def test_transport_that_cannot_serve(tmp_path, family, other, transport,
                                     words):
    teacher = write_teacher(tmp_path, other)
    model = MODELS.build(
        distiller_cfg(
            family, dict(teacher, transport=transport), calibrator=None))
    with pytest.raises(InvalidValueError, match=re.escape(words)):
        model.teacher.build(model)


# Runs in a Python that cannot import tcal_det.
PREDICT_WITHOUT = """
import sys
sys.modules['tcal_det'] = None
import torch
torch.set_num_threads(1)
from mmdet.apis import inference_detector, init_detector
from mmdet.utils import register_all_modules
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
register_all_modules()
for path in sys.argv[2:]:
    meta = torch.load(path, map_location='cpu', weights_only=False)['meta']
    cfg = Config.fromstring(meta['cfg'], '.py')
    detector = init_detector(cfg, path, device='cpu')
    found = inference_detector(detector, sys.argv[1]).pred_instances
    torch.save([type(detector).__name__] +
               [found[key] for key in ('bboxes', 'scores', 'labels')],
               path + '.results')
"""


@pytest.mark.slow
def test_published_students_open_without_tcal_det(student, tmp_path):
    """In a process that knows mmdet only; the same detections there."""
    rng = np.random.default_rng(0)
    image = str(tmp_path / 'image.png')
    cv2.imwrite(image, rng.integers(0, 256, (64, 96, 3), np.uint8))
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(
            type='PackDetInputs',
            meta_keys=('img_shape', 'ori_shape', 'scale_factor'))
    ]
    expected = {}
    for family in ('retinanet', 'gfl', 'cascade'):
        model = student(family)
        cfg = Config(
            dict(
                default_scope='mmdet',
                model=distiller_cfg(
                    family, dict(config='private.py', checkpoint='x.pth')),
                test_dataloader=dict(
                    dataset=dict(type='CocoDataset', pipeline=pipeline))))
        trained = str(tmp_path / f'{family}.pth')
        meta = dict(
            cfg=cfg.pretty_text,
            dataset_meta=dict(classes=tuple('abc'), palette=[(0, 0, 0)] * 3))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), trained)
        path = publish_student(trained, str(tmp_path / f'{family}-student'))
        detector = init_detector(cfg, trained, device='cpu')
        expected[path] = inference_detector(detector, image).pred_instances
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PREDICT_WITHOUT, image] +
        list(expected),
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert result.returncode == 0, result.stdout
    names = []
    for path, found in expected.items():
        name, *values = torch.load(path + '.results')
        names.append(name)
        assert len(found) > 0
        for field, value in zip(FIELDS, values):
            torch.testing.assert_close(value, found[field])
    assert names == ['RetinaNet', 'GFL', 'CascadeRCNN']


@pytest.mark.slow
def test_two_ranks_average_their_gradients(batch, tmp_path):
    """As one process on both halves; no teacher among the parameters.

    RetinaNet divides its loss on each rank by positives of that rank, GFL by
    those of all ranks: as if both images were one batch.
    """
    cfgs = [
        distiller_cfg(family, write_teacher(tmp_path, family, name=family))
        for family in ('retinanet', 'gfl')
    ]
    halves = [
        batch(num_images=1, num_boxes=num_boxes, seed=seed)
        for seed, num_boxes in enumerate((5, 1))
    ]
    run_ranks(train_one_half, cfgs, halves, str(tmp_path))
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1))

    retinanet, gfl = map(build_for_training, cfgs)
    for half in halves:
        (training_loss(retinanet, half) / 2).backward()
    together = {key: halves[0][key] + halves[1][key] for key in halves[0]}
    training_loss(gfl, together).backward()
    for model, mine, its in zip((retinanet, gfl), first, second):
        expected = [weight.grad for weight in model.parameters()]
        assert len(mine) == len(its) == len(expected)
        for one, other, whole in zip(mine, its, expected):
            assert torch.equal(one, other)
            torch.testing.assert_close(one, whole, rtol=1e-3, atol=1e-5)
