"""What distillation of a dense head keeps for backward.

The logits are made large beside everything else: many classes, small images.
"""
import copy

import pytest
import torch
from dense_cases import batch, build, tiny_model

from tcal_det.registry import MODELS

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
    maps = plain.bbox_head(plain.extract_feat(inputs[0]))[0]
    logits = sum(level.numel() * level.element_size() for level in maps)
    added = (
        kept_storages(distilled, inputs) - kept_storages(plain, inputs)) / logits
    # The student's are those that its own loss keeps; a few numbers of each
    # sample come in addition.
    assert 1 <= added < 1 + 8 / NUM_CLASSES
