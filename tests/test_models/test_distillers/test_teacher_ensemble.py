"""Several teachers of one student."""
import copy
import json
import pickle

import pytest
import torch

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.models.distillers import FrozenTeacher
from tcal_det.models.distillers.distillation_group import (DistillationGroup,
                                                           mix_distill_groups)
from tcal_det.models.head_adapters import ClassificationSamples
from tcal_det.registry import MODELS
from tests.head_families import distiller_cfg, write_teacher

TEMPERATURE = dict(type='TemperatureScaling', temperature=2.0)


@pytest.fixture
def two(tmp_path):
    """Two different teachers, by name."""

    def write(family='faster', other=None):
        teachers = dict(
            big=write_teacher(tmp_path, family, name='big'),
            wide=write_teacher(tmp_path, other or family, name='wide'))
        content = torch.load(teachers['wide']['checkpoint'])
        for key, value in content['state_dict'].items():
            if 'cls' in key and value.is_floating_point():
                value.mul_(-1.5)
        torch.save(content, teachers['wide']['checkpoint'])
        return teachers

    return write


def ensemble_cfg(family, teachers, losses=None, **more):
    cfg = distiller_cfg(family, dict(config='x', checkpoint='x'))
    cfg.teacher = dict(teachers, **more)
    if losses is not None:
        cfg.distill_losses = losses
    return cfg


def step(cfg, training_step, **batch):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    losses, total = training_step(model, **batch)
    total.backward()
    return losses, [weight.grad for weight in model.parameters()], model


def assert_same(one, other):
    losses, gradients, _ = one
    for name, value in other[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(losses[name], value), name
    for mine, its in zip(gradients, other[1]):
        assert (mine is None) == (its is None)
        assert mine is None or torch.equal(mine, its)


@pytest.mark.parametrize('family', ['faster', 'retinanet', 'cascade'])
def test_weights_1_and_0_are_the_first_alone(two, training_step, family):
    teachers = two(family)
    alone = step(
        distiller_cfg(family, teachers['big'], calibrator=None), training_step)
    mixed = step(
        ensemble_cfg(family, teachers, weights=dict(big=1, wide=0)),
        training_step)
    assert_same(mixed, alone)
    # Nobody asks the other.
    assert mixed[2].teacher.teachers['big'].is_built
    assert not mixed[2].teacher.teachers['wide'].is_built
    equal = step(ensemble_cfg(family, teachers), training_step)
    assert not torch.equal(equal[0]['loss_kd_cls'], alone[0]['loss_kd_cls'])


def test_mixture_by_the_formula(two, training_step):
    """Mean of the calibrated probabilities on the student's RoIs."""
    teachers = two()
    teachers['big']['calibrator'] = TEMPERATURE
    model = MODELS.build(
        ensemble_cfg('faster', teachers, weights=dict(big=3, wide=1)))
    model.init_weights()
    heard = {}

    def listen(name):
        return lambda *args: heard.update({name: args[2][0].detach()})

    model.roi_head.bbox_head.register_forward_hook(listen('student'))
    for name, teacher in model.teacher.teachers.items():
        teacher.detector.roi_head.bbox_head.register_forward_hook(listen(name))
    losses, _ = training_step(model)
    p = (0.75 * (heard['big'].double() / 2).softmax(1) +
         0.25 * heard['wide'].double().softmax(1))
    log_q = heard['student'].double().log_softmax(1)
    expected = (p * (p.log() - log_q)).sum(1).mean()
    assert losses['loss_kd_cls'].item() == pytest.approx(
        expected.item(), rel=1e-4)


def test_a_loss_names_its_teacher(two, training_step):
    teachers = two()
    kl = dict(type='LogitKLDivLoss')
    both = step(
        ensemble_cfg(
            'faster', teachers,
            dict(
                loss_big=dict(kl, teacher='big'),
                loss_wide=dict(kl, teacher='wide'),
                loss_mixed=kl)), training_step)[0]
    for name in ('big', 'wide'):
        alone = step(
            distiller_cfg('faster', teachers[name], calibrator=None),
            training_step)[0]
        assert torch.equal(both[f'loss_{name}'], alone['loss_kd_cls'])
    assert not torch.equal(both['loss_mixed'], both['loss_big'])


def test_a_teacher_that_no_loss_asks_is_not_built(two):
    teachers = two()
    teachers['wide']['checkpoint'] = 'gone.pth'
    model = MODELS.build(
        ensemble_cfg(
            'faster', teachers,
            dict(loss_big=dict(type='LogitKLDivLoss', teacher='big'))))
    model.init_weights()
    assert model.teacher.is_built
    assert not model.teacher.teachers['wide'].is_built


def test_teachers_of_two_families(two, training_step, tmp_path):
    """Each by its own transport; a loss for each, or mixed."""
    teachers = two('faster', 'retinanet')
    losses, gradients, _ = step(
        ensemble_cfg('faster', teachers), training_step)
    assert losses['loss_kd_cls'].isfinite() and losses['loss_kd_cls'] > 0
    assert all(one.isfinite().all() for one in gradients if one is not None)


def test_nothing_of_them_is_in_the_student(two, training_step):
    plain = MODELS.build(distiller_cfg('faster', two()['big']))
    _, _, model = step(ensemble_cfg('faster', two()), training_step)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_parameters()
            ] == [name for name, _ in plain.named_parameters()]
    assert set(model.modules()).isdisjoint(
        module for teacher in model.teacher.teachers.values()
        for module in teacher.detector.modules())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not twin.teacher.is_built
        assert list(twin.teacher.teachers) == ['big', 'wide']
        for name, teacher in twin.teacher.teachers.items():
            assert not teacher.is_built
            assert (
                teacher.checkpoint == model.teacher.teachers[name].checkpoint)


def test_they_move_with_the_student(two, training_step):
    _, _, model = step(ensemble_cfg('faster', two()), training_step)
    model.double()
    for teacher in model.teacher.teachers.values():
        assert next(teacher.detector.parameters()).dtype == torch.float64


def test_off_equals_plain(two, training_step):
    cfg = ensemble_cfg(
        'faster', two(),
        dict(loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=0)))
    off = step(cfg, training_step)
    plain = dict(cfg, type='FasterRCNN')
    for key in ('student_type', 'teacher', 'distill_losses'):
        del plain[key]
    expected = step(plain, training_step)
    assert off[0].pop('loss_kd_cls') == 0
    assert_same(off, expected)


def calibration(path, nll):
    path.write_text(
        json.dumps(
            dict(
                calibrator=dict(type='TemperatureScaling', temperature=2.0),
                after=dict(all=dict(nll=nll)),
                data=dict(ann_files=['val.json'], num_images=9))))
    return dict(type='TemperatureScaling', load_from=str(path))


def test_weights_of_their_calibration_files(two, training_step, tmp_path):
    """Likelihoods of 2 : 1."""
    teachers = two()
    for name, nll in (('big', 0.25), ('wide', 0.25 + 0.6931471805599453)):
        teachers[name]['calibrator'] = calibration(tmp_path / f'{name}.json',
                                                   nll)
    by_nll = step(
        ensemble_cfg('faster', teachers, weights='nll'), training_step)[0]
    by_hand = step(
        ensemble_cfg('faster', teachers, weights=dict(big=2, wide=1)),
        training_step)[0]
    assert by_nll['loss_kd_cls'].item() == pytest.approx(
        by_hand['loss_kd_cls'].item(), rel=1e-6)


KL = dict(type='LogitKLDivLoss')


@pytest.mark.parametrize('edit, losses, error, message', [
    (dict(weights=dict(big=1)), None, InvalidValueError,
     'a weight for each of the teachers'),
    (dict(weights='nll'), None, InvalidValueError, "'big' has none: write"),
    (dict(wide=dict(config='x.py', checkpoint='x', transprot='auto')), None,
     InvalidValueError, '`teacher.wide` must have the keys .*transprot'),
    (dict(wide=dict(config='gone.py', checkpoint='x')), None, MissingFileError,
     "teacher 'wide': `teacher.config` 'gone.py' does not"),
    ({}, dict(loss_kd_cls=dict(KL, teacher='small')), InvalidValueError,
     r"must be one of \['big', 'wide'\], but got \['small'\]"),
    ({}, dict(loss_kd_cls=dict(KL, teacher=1)), InvalidTypeError,
     '`distill_losses.loss_kd_cls.teacher` must be the name'),
])
def test_mistakes(two, edit, losses, error, message):
    with pytest.raises(error, match=message) as info:
        cfg = ensemble_cfg('faster', dict(two(), **edit), losses)
        MODELS.build(cfg).init_weights()
    assert '\n' not in str(info.value)


def test_weights_by_likelihood_beside_a_loss_that_names_a_teacher(
        two, tmp_path, training_step):
    teachers = two()
    for name, nll in (('big', 0.25), ('wide', 0.5)):
        teachers[name]['calibrator'] = calibration(tmp_path / f'{name}.json',
                                                   nll)
    cfg = ensemble_cfg('faster', teachers, weights='nll')
    cfg.distill_losses.loss_pkd = dict(type='PKDLoss', teacher='big')
    losses, _, model = step(cfg, training_step)
    assert losses['loss_pkd'] > 0 and losses['loss_kd_cls'] > 0
    assert all(one.needs_logits for one in model.teacher.teachers.values())


def test_the_missing_file_is_told_with_its_teacher(two):
    teachers = two()
    teachers['wide']['checkpoint'] = 'gone.pth'
    model = MODELS.build(ensemble_cfg('faster', teachers))
    with pytest.raises(
            MissingFileError,
            match="^teacher 'wide': teacher checkpoint 'gone.pth' does not"):
        model.init_weights()


def test_a_single_teacher_has_no_name(two):
    cfg = distiller_cfg('faster', two()['big'])
    cfg.distill_losses.loss_kd_cls.teacher = 'big'
    with pytest.raises(
            InvalidValueError, match="names the teacher 'big', but"):
        MODELS.build(cfg)
    assert isinstance(
        MODELS.build(distiller_cfg('faster',
                                   two()['big'])).teacher, FrozenTeacher)


class TestMixedGroups:
    """Teachers that answer for other samples of one group."""

    LOGITS = torch.arange(10.).view(5, 2)

    def distill_group(self, index, answer):
        index = torch.tensor(index)
        group = ClassificationSamples(
            self.LOGITS.clone().requires_grad_(),
            torch.tensor([0, 0, 0, 1, 1]),
            None,
            labels=torch.tensor([0, 2, 1, 2, 0]))
        return DistillationGroup(
            group.subset(index),
            torch.full((len(index), 2), answer),
            2,
            index=index)

    def test_each_sample_has_the_mean_of_those_that_answer(self):
        first, second = torch.logit(torch.tensor([0.2, 0.6])).tolist()
        mixed = mix_distill_groups([
            self.distill_group([1, 3], first),
            self.distill_group([0, 3, 4], second)
        ], [1.0, 3.0], 'sigmoid')
        assert mixed.index.tolist() == [0, 1, 3, 4]
        assert mixed.logits.sigmoid()[:, 0].tolist() == pytest.approx(
            [0.6, 0.2, 0.25 * 0.2 + 0.75 * 0.6, 0.6])
        assert mixed.samples.logits.tolist() == self.LOGITS[[0, 1, 3,
                                                             4]].tolist()
        assert mixed.samples.labels.tolist() == [0, 2, 2, 0]
        assert mixed.samples.image_index.tolist() == [0, 0, 1, 1]
        # That of the whole group, though none of them has all samples.
        assert mixed.samples.avg_factor == 5
        assert mixed.samples.logits.requires_grad
        assert not mixed.logits.requires_grad

    def test_one_that_answers_for_all(self):
        part = self.distill_group([2], 1.0)
        whole = self.distill_group([0, 1, 2, 3, 4], 0.0)
        whole.index = None
        for distill_groups in ([whole, part], [part, whole]):
            mixed = mix_distill_groups(distill_groups, [1.0, 1.0], 'sigmoid')
            assert mixed.index.tolist() == [0, 1, 2, 3, 4]
            probs = mixed.logits.sigmoid()[:, 0]
            assert probs[[0, 1, 3, 4]].tolist() == pytest.approx([0.5] * 4)
            assert probs[2].item() == pytest.approx((0.5 + 0.7310586) / 2)
            assert mixed.samples.logits.tolist() == self.LOGITS.tolist()

    def test_nothing_at_all(self):
        nothing = DistillationGroup(
            self.distill_group([0], 0.0).samples.subset(
                torch.zeros(0, dtype=torch.long)),
            torch.zeros(0, 2),
            2,
            index=torch.zeros(0, dtype=torch.long))
        mixed = mix_distill_groups([nothing, nothing], [1.0, 1.0], 'softmax')
        assert len(mixed.index) == len(mixed.logits) == 0
