"""Feature losses inside the distiller: off, on, and run how often."""
import copy

import pytest
import torch

from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from tests.head_families import (build, detector_cfg, distiller_cfg,
                                 write_teacher)
from tests.query_cases import batch as query_batch
from tests.query_cases import build as build_query
from tests.query_cases import distiller as query_distiller
from tests.query_cases import kd_loss, tiny_model
from tests.test_models.test_distillers.feature_term_cases import (
    KINDS, count_runs_of_both, feature_losses, five_levels, student_cfg, wide)


def own_losses(losses, distilled):
    kept = {}
    for name, value in losses.items():
        if name not in distilled:
            values = value if isinstance(value, list) else [value]
            kept.update({
                f'{name}.{index}': one
                for index, one in enumerate(values)
            })
    return kept


def assert_equal_losses(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def gradients_of(model):
    return {
        name: weight.grad
        for name, weight in model.named_parameters()
        if not name.startswith('distill_losses.')
    }


@pytest.mark.parametrize('family, levels', [('faster', 5), ('retinanet', 3),
                                            ('gfl', 3), ('rtmdet', 3),
                                            ('cascade', 5)])
def test_off_is_the_plain_detector(tmp_path, training_step, family, levels):
    """Losses, gradients and the weights of the beginning, bit for bit."""
    from mmdet.registry import MODELS as MMDET_MODELS
    losses = feature_losses([16] * levels, [24] * levels, loss_weight=0.0)
    cfg = student_cfg(family, write_teacher(tmp_path, family, edit=wide),
                      losses)
    plain = build(detector_cfg(family), MMDET_MODELS)
    model = build(cfg, MODELS)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    for seed in range(2):
        values = []
        for detector in (plain, model):
            detector.zero_grad()
            found, total = training_step(detector, seed=seed)
            total.backward()
            values.append(own_losses(found, losses))
        assert all(found[name] == 0 for name in losses)
        assert_equal_losses(*values)
        expected = gradients_of(plain)
        for name, gradient in gradients_of(model).items():
            assert (gradient is None) == (expected[name] is None), name
            assert gradient is None or torch.equal(gradient,
                                                   expected[name]), name


def test_off_is_the_plain_query_student(tmp_path):
    kinds = [kind for kind in KINDS if kind != 'ScoreWeightedL2Loss']
    losses = feature_losses([256] * 4, kinds=kinds, loss_weight=0.0)
    cfg = tiny_model('DINO')
    plain, model = build_query(cfg), query_distiller(
        tmp_path, cfg, losses, teacher_seed=1)
    model.teacher.build(model)
    values = []
    for detector in (plain, model):
        torch.manual_seed(0)
        found = detector.loss(*query_batch('DINO'))
        sum(value for value in found.values()).backward()
        values.append(own_losses(found, losses))
    assert_equal_losses(*values)
    expected = gradients_of(plain)
    for name, gradient in gradients_of(model).items():
        assert gradient is None or torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize('family, levels', [('faster', 5), ('retinanet', 3)])
def test_on_moves_no_random_stream_of_the_student(detector_cfg, teacher_files,
                                                  distiller_cfg, training_step,
                                                  family, levels, tmp_path):
    """What the losses draw does not change what the student samples."""
    from mmdet.registry import MODELS as MMDET_MODELS
    if family == 'faster':
        # Samplers that choose at random.
        plain_cfg = detector_cfg()
        losses = feature_losses([16] * levels)
        cfg = distiller_cfg(losses=losses)
    else:
        from tests import head_families
        plain_cfg = head_families.detector_cfg(family)
        losses = feature_losses([16] * levels)
        cfg = student_cfg(family, write_teacher(tmp_path, family), losses)
    plain, model = build(plain_cfg, MMDET_MODELS), build(cfg, MODELS)
    streams, values = [], []
    for detector in (plain, model):
        found, _ = training_step(detector)
        streams.append(torch.get_rng_state())
        values.append(own_losses(found, losses))
    assert_equal_losses(*values)
    assert torch.equal(*streams)
    assert all(found[name] > 0 for name in losses)


@pytest.mark.parametrize('with_logits', [True, False])
@pytest.mark.parametrize('family, levels, head', [
    ('faster', 5, 'rpn_head'),
    ('retinanet', 3, 'bbox_head'),
])
def test_nothing_runs_twice(tmp_path, training_step, family, levels, head,
                            with_logits):
    losses = feature_losses([16] * levels)
    cfg = student_cfg(family, write_teacher(tmp_path, family), losses)
    if with_logits:
        cfg.distill_losses.update(
            distiller_cfg(family, dict(), None).distill_losses)
    model = build(cfg, MODELS)
    model.init_weights()
    counts = count_runs_of_both(model, 'backbone', 'neck', head)
    losses, _ = training_step(model)
    # The teacher's RPN runs for the score-weighted loss alone.
    assert set(counts.values()) == {1}, counts
    assert ('loss_kd_cls' in losses) == with_logits


@pytest.mark.parametrize('transport',
                         ['matched_predictions', 'shared_queries'])
def test_nothing_of_a_query_pair_runs_twice(tmp_path, transport):
    cfg = tiny_model('DINO')
    losses = dict(
        kd_loss('DINO'),
        **feature_losses([256] * 4, kinds=['PKDLoss', 'FGDLoss']))
    model = query_distiller(
        tmp_path, cfg, losses, teacher_seed=1, transport=transport)
    model.teacher.build(model)
    counts = count_runs_of_both(model, 'backbone', 'neck')
    model.loss(*query_batch('DINO'))
    assert set(counts.values()) == {1}, counts


@pytest.mark.parametrize('family, other, levels', [
    ('gfl', 'faster', 3),
    ('retinanet', 'faster', 3),
    ('retinanet', 'gfl', 3),
    ('faster', 'gfl', 3),
])
def test_unlike_heads(tmp_path, training_step, family, other, levels):
    """Of which each needs another way for the logits of the teacher."""
    losses = feature_losses([16] * levels)
    cfg = student_cfg(family, write_teacher(tmp_path, other), losses)
    cfg.distill_losses.update(
        distiller_cfg(family, dict(), None).distill_losses)
    model = build(cfg, MODELS)
    model.init_weights()
    counts = count_runs_of_both(model, 'backbone', 'neck')
    values, total = training_step(model)
    assert set(counts.values()) == {1}, counts
    assert all(values[name] > 0 for name in losses)
    assert 'loss_kd_cls' in values
    total.backward()


def test_features_alone_need_no_more_than_features(tmp_path, training_step):
    """Neither the teacher's head nor classes in common, nor samples."""
    teacher = write_teacher(tmp_path, 'gfl', edit=five_levels, num_classes=7)
    cfg = student_cfg('faster', teacher,
                      feature_losses([16] * 4, kinds=['PKDLoss']))
    model = build(cfg, MODELS)
    model.init_weights()
    counts = count_runs_of_both(model, 'backbone', 'neck')
    runs = []
    model.teacher.detector.bbox_head.register_forward_hook(
        lambda *_: runs.append('head'))
    losses, total = training_step(model)
    assert losses['loss_PKDLoss'] > 0 and runs == []
    assert set(counts.values()) == {1}
    total.backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_query_teacher_of_a_two_stage_student(tmp_path, training_step):
    """A DINO and a Faster R-CNN have maps of the strides 8 to 64."""
    cfg = tiny_model('DINO')
    path = str(tmp_path / 'dino.pth')
    torch.save(
        dict(state_dict=build_query(copy.deepcopy(cfg)).state_dict()), path)
    losses = feature_losses([16] * 4, [256] * 4, kinds=['PKDLoss', 'MGDLoss'])
    model = build(
        student_cfg('faster', dict(config=dict(model=cfg), checkpoint=path),
                    losses), MODELS)
    values, total = training_step(model, size=(128, 160))
    assert all(values[name] > 0 for name in losses)
    total.backward()


class TestEnsembles:

    @staticmethod
    def cfg(tmp_path, losses):
        cfg = student_cfg('faster', dict(), losses)
        cfg.teacher = dict(
            big=write_teacher(tmp_path, 'faster', name='big'),
            other=write_teacher(tmp_path, 'gfl', name='other'))
        return cfg

    def test_a_loss_names_its_teacher(self, tmp_path, training_step):
        """The other answers for samples, this one gives features only."""
        losses = dict(
            loss_kd_cls=dict(type='LogitKLDivLoss', teacher='big'),
            loss_pkd=dict(type='PKDLoss', teacher='other'))
        model = build(self.cfg(tmp_path, losses), MODELS)
        values, _ = training_step(model)
        alone = build(
            student_cfg('faster', write_teacher(tmp_path, 'gfl', name='other'),
                        dict(loss_pkd=dict(type='PKDLoss'))), MODELS)
        assert torch.equal(values['loss_pkd'],
                           training_step(alone)[0]['loss_pkd'])
        other = model.teacher.teachers['other']
        assert other.transport is None and other.classes is None

    def test_maps_cannot_be_mixed(self, tmp_path):
        losses = dict(loss_pkd=dict(type='PKDLoss'))
        with pytest.raises(
                InvalidValueError,
                match='`distill_losses.loss_pkd` must name one of the teachers'
        ):
            build(self.cfg(tmp_path, losses), MODELS)
