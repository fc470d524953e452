"""Distillation of a dense head takes few logit tensors.

A logit tensor has the logits of all priors of all levels.
"""
import copy
from unittest import mock

import pytest
import torch

from tcal_det.models.calibrators import focal_posterior
from tcal_det.models.distillers.terms import distilled_loss
from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.losses import class_sum
from tcal_det.registry import MODELS
from tests.dense_cases import batch, build, tiny_model
from tests.live_memory import LiveMemory

NUM_CLASSES = 40
CALIBRATORS = [
    None,
    dict(type='PlattScaling', scale=2.0, bias=1.0),
    dict(type='FocalPosterior')
]
LOSSES = ['LogitBinaryKLDivLoss', 'QualityFocalKDLoss']


@pytest.fixture
def pair(tmp_path):
    """The plain detector, and the same with a teacher."""

    def make(name, loss, calibrator):
        cfg = tiny_model(name)
        cfg.bbox_head.num_classes = NUM_CLASSES
        path = str(tmp_path / 'teacher.pth')
        torch.save(dict(state_dict=build(cfg, seed=1).state_dict()), path)
        student = dict(
            copy.deepcopy(cfg),
            type='tcal_det.CalibratedTeacherDistiller',
            student_type=cfg.type,
            teacher=dict(
                config=dict(model=cfg), checkpoint=path,
                calibrator=calibrator),
            distill_losses=dict(loss_kd_cls=dict(type=loss)))
        return build(cfg), build(student, MODELS)

    return make


def logit_bytes(detector, inputs):
    with torch.no_grad():
        maps = detector.bbox_head(detector.extract_feat(inputs[0]))[0]
    return sum(level.numel() * level.element_size() for level in maps)


def kept_storages(detector, inputs):
    """Sizes, by address, of what autograd keeps of ``detector.loss``."""
    kept, storages = [], {}

    def record(tensor):
        # Alive until all are recorded: an address stands for one storage.
        kept.append(tensor)
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda one: one):
        losses = detector.loss(*copy.deepcopy(inputs))
        total, _ = detector.parse_losses(losses)
    total.backward()
    return sum(storages.values())


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('calibrator', CALIBRATORS)
@pytest.mark.parametrize('name', ['RetinaHead', 'GFLHead'])
def test_teacher_logits_are_all_that_is_kept(pair, name, calibrator, loss):
    plain, distilled = pair(name, loss, calibrator)
    inputs = batch(name)
    kept = kept_storages(distilled, inputs) - kept_storages(plain, inputs)
    added = kept / logit_bytes(plain, inputs)
    # The student's are those that its own loss keeps; a few numbers of each
    # sample come in addition.
    assert 1 <= added < 1 + 8 / NUM_CLASSES


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('calibrator', CALIBRATORS)
def test_at_most_two_logit_tensors_at_once(pair, calibrator, loss,
                                           monkeypatch):
    """From the teacher's features to the loss of each prior."""
    # As small beside a level's logits as they are at 800x1344.
    monkeypatch.setattr(class_sum, 'CHUNK_SIZE', 2**12)
    monkeypatch.setattr(focal_posterior, 'NUMBERS_PER_SLICE', 2**12)
    plain, distilled = pair('RetinaHead', loss, calibrator)
    inputs = batch('RetinaHead')
    with adapter_for(distilled, 'student').observe(inputs[1]) as observation:
        plain_losses = type(plain).loss(distilled, *inputs)
    assert 'loss_kd_cls' not in plain_losses
    distilled.teacher.build(distilled)
    teacher = distilled.teacher.detector
    with torch.no_grad():
        features = teacher.extract_feat(inputs[0])
    known = [group.logits for group in observation.groups]
    known += [inputs[0], *features, *teacher.state_dict().values()]
    with mock.patch.object(
            teacher, 'extract_feat',
            return_value=features), LiveMemory(*known) as memory:
        for distill_group in distilled.teacher.classify_samples(
                distilled.teacher.prepare_batch(*inputs), observation):
            distilled_loss(distilled.distill_losses['loss_kd_cls'],
                           distill_group)
    peak = memory.peak / logit_bytes(plain, inputs)
    # One has to be there.
    assert 1 < peak <= 2


@pytest.mark.parametrize('name', ['RetinaHead', 'GFLHead'])
def test_teacher_runs_before_the_students_graph(pair, name):
    """Its convolutions need no memory beside what backward keeps."""
    _, distilled = pair(name, 'LogitBinaryKLDivLoss', None)
    distilled.teacher.build(distilled)
    order = []
    for model, kind in ((distilled.teacher.detector, 'teacher'), (distilled,
                                                                  'student')):
        model.bbox_head.register_forward_hook(
            lambda *_, kind=kind: order.append(kind))
    distilled.loss(*batch(name))
    assert order == ['teacher', 'student']
