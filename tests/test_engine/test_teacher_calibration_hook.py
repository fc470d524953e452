"""What the hook logs is what the models said."""
import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel

from tcal_det.engine.hooks import teacher_calibration_hook
from tcal_det.engine.hooks.teacher_calibration_hook import (
    TeacherCalibrationHook, make_tables, scored_pairs, top_classes)
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import calibration_error, top_label
from tcal_det.models.distillers.distillation_group import DistillationGroup
from tcal_det.models.head_adapters import ClassificationSamples
from tcal_det.registry import HOOKS, MODELS
from tests.head_families import FAMILIES
from tests.head_families import build as build_tiny
from tests.head_families import distiller_cfg as pair_cfg
from tests.head_families import write_teacher

NAMES = ['teacher', 'calibrated_teacher', 'student']


class Visualizer:
    """Keeps the pictures, or the bin tables where drawing is faked."""

    def __init__(self):
        self.images = []

    def add_image(self, name, image, step):
        self.images.append((name, image, step))


@pytest.fixture
def tables_instead_of_figures(monkeypatch):
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr(teacher_calibration_hook, 'reliability_comparison',
                        lambda tables, title: tables)
    monkeypatch.setattr(teacher_calibration_hook, 'figure_as_image',
                        lambda figure: figure)


def make_runner(model, name='teacher_calibration_hook'):
    hub = MessageHub.get_instance(name)
    hub.log_scalars.clear()
    return SimpleNamespace(
        model=model, iter=0, message_hub=hub, visualizer=Visualizer())


def build(cfg):
    model = MODELS.build(cfg)
    model.teacher.build(model)
    return model


def record(model):
    """Logits and labels of each step, by other hooks than the tested one."""
    steps = []
    fc_cls = model.teacher.detector.roi_head.bbox_head.fc_cls
    loss_cls = model.roi_head.bbox_head.loss_cls
    handles = [
        loss_cls.register_forward_pre_hook(lambda _, args: steps.append(
            dict(student=args[0].detach(), labels=args[1]))),
        fc_cls.register_forward_hook(
            lambda _, args, output: steps[-1].update(teacher=output))
    ]
    return steps, handles


def train(hook, runner, training_step, num_iters):
    """Iterations with the hook around them; the labels differ by seed."""
    model = runner.model
    heard = []
    hook.before_train(runner)
    for _ in range(num_iters):
        hook.before_train_iter(runner, 0)
        heard.append(len(model.teacher.calibrator._forward_hooks))
        training_step(model, seed=runner.iter)
        hook.after_train_iter(runner, 0)
        runner.iter += 1
    return heard


def expected_errors(step, temperature, num_bins=15):
    labels = step['labels'].numpy()
    logits = dict(
        teacher=step['teacher'],
        calibrated_teacher=step['teacher'].double() / temperature,
        student=step['student'])
    return {
        name:
        calibration_error(
            *top_label(values.double().softmax(1).numpy(), labels), num_bins)
        for name, values in logits.items()
    }


@pytest.mark.parametrize('num_bins', [15, 4])
def test_logs_the_errors_of_the_recorded_logits(distiller_cfg, training_step,
                                                num_bins):
    model = build(distiller_cfg(temperature=3.0))
    steps, _ = record(model)
    runner = make_runner(model)
    train(
        TeacherCalibrationHook(interval=1, num_bins=num_bins), runner,
        training_step, 1)
    errors = expected_errors(steps[0], 3.0, num_bins)
    assert list(errors) == NAMES
    for name, error in errors.items():
        for key, value in ((f'train/{name}_ece',
                            error.ece), (f'train/{name}_ece_over', error.over),
                           (f'train/{name}_ece_under', error.under)):
            logged = runner.message_hub.get_scalar(key).current()
            assert logged == pytest.approx(value, abs=1e-6)
            # mmengine would log a mean over the last iterations.
            assert 'loss' not in key and 'time' not in key
    # The case says something: T = 3 makes a difference.
    assert abs(errors['teacher'].ece - errors['calibrated_teacher'].ece) > .01


def test_other_iterations_attach_nothing(distiller_cfg, training_step):
    model = build(distiller_cfg())
    runner = make_runner(model)
    heard = train(TeacherCalibrationHook(interval=2), runner, training_step, 4)
    assert heard == [0, 1, 0, 1]
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert not model.teacher.calibrator._forward_hooks
    values, _ = runner.message_hub.get_scalar('train/student_ece').data
    assert len(values) == 2


def test_changes_no_loss(distiller_cfg, training_step):
    model = build(distiller_cfg())
    losses, _ = training_step(model)
    runner = make_runner(model)
    hook = TeacherCalibrationHook(interval=1)
    hook.before_train_iter(runner, 0)
    watched, _ = training_step(model)
    hook.after_train_iter(runner, 0)
    assert list(watched) == list(losses)
    assert torch.equal(watched['loss_kd_cls'], losses['loss_kd_cls'])


def test_without_calibrator_both_teachers_are_one(distiller_cfg,
                                                  training_step):
    cfg = distiller_cfg()
    cfg.teacher.pop('calibrator')
    runner = make_runner(build(cfg))
    train(TeacherCalibrationHook(interval=1), runner, training_step, 1)
    before, after = (
        runner.message_hub.get_scalar(f'train/{name}_ece').current()
        for name in ('teacher', 'calibrated_teacher'))
    assert before == after > 0


def test_one_figure_per_epoch_of_all_its_samples(distiller_cfg, training_step,
                                                 tables_instead_of_figures):
    model = build(distiller_cfg())
    steps, _ = record(model)
    runner = make_runner(model)
    hook = TeacherCalibrationHook(interval=2)
    for epoch in range(2):
        train(hook, runner, training_step, 4)
        hook.after_train_epoch(runner)
        # Of what has been drawn a validation has nothing to draw.
        hook.before_val_epoch(runner)
        assert len(runner.visualizer.images) == epoch + 1
        name, tables, step = runner.visualizer.images[-1]
        assert (name, step) == ('train_reliability', 4 * (epoch + 1))
        assert list(tables) == ['Teacher', 'Calibrated teacher', 'Student']
        sampled = [steps[4 * epoch + 1], steps[4 * epoch + 3]]
        whole = {
            key: torch.cat([step[key] for step in sampled])
            for key in sampled[0]
        }
        for error, table in zip(
                expected_errors(whole, 1.5).values(), tables.values()):
            assert (error.bins.count == table.count).all()
            assert error.bins.gap == pytest.approx(
                table.gap, abs=1e-6, nan_ok=True)


def test_epoch_without_a_sampled_step_has_no_figure(distiller_cfg,
                                                    training_step):
    runner = make_runner(build(distiller_cfg()))
    hook = TeacherCalibrationHook(interval=50)
    train(hook, runner, training_step, 1)
    hook.after_train_epoch(runner)
    assert runner.visualizer.images == []


def test_training_in_iterations_is_drawn_at_validation(
        distiller_cfg, training_step, tables_instead_of_figures):
    runner = make_runner(build(distiller_cfg()))
    hook = TeacherCalibrationHook(interval=1)
    train(hook, runner, training_step, 1)
    hook.before_val_epoch(runner)
    assert len(runner.visualizer.images) == 1


def test_draws_an_rgb_image(distiller_cfg, training_step):
    runner = make_runner(build(distiller_cfg()))
    hook = TeacherCalibrationHook(interval=1)
    train(hook, runner, training_step, 1)
    hook.after_train_epoch(runner)
    (_, image, _), = runner.visualizer.images
    assert image.dtype == np.uint8 and image.shape[2] == 3
    assert image.min() < 100 < image.max()


def test_rois_of_all_ranks_count(distiller_cfg, training_step,
                                 tables_instead_of_figures, monkeypatch):
    """Two simulated ranks are one with the RoIs of both."""
    sent = []

    def train_rank(rank, gather):
        monkeypatch.setattr(teacher_calibration_hook, 'all_gather_object',
                            gather)
        runner = make_runner(build(distiller_cfg()))
        runner.model.roi_head.bbox_head.fc_cls.weight.data.normal_(
            0, 0.5 + rank)
        steps, _ = record(runner.model)
        hook = TeacherCalibrationHook(interval=1)
        train(hook, runner, training_step, 1)
        hook.after_train_epoch(runner)
        return runner, steps[0]

    _, other = train_rank(1, lambda tables: sent.append(tables) or [tables])
    runner, mine = train_rank(0, lambda tables: [tables, sent[0], {}])
    assert not torch.equal(mine['student'], other['student'])
    errors = expected_errors(
        {key: torch.cat([mine[key], other[key]])
         for key in mine}, 1.5)
    for name, error in errors.items():
        logged = runner.message_hub.get_scalar(f'train/{name}_ece').current()
        assert logged == pytest.approx(error.ece, abs=1e-6)
    (_, tables, _), = runner.visualizer.images
    assert tables['Student'].num_samples == 2 * len(mine['labels'])


def test_only_the_main_process_draws(distiller_cfg, training_step,
                                     monkeypatch):
    monkeypatch.setattr(teacher_calibration_hook, 'is_main_process',
                        lambda: False)
    runner = make_runner(build(distiller_cfg()))
    hook = TeacherCalibrationHook(interval=1)
    train(hook, runner, training_step, 1)
    hook.after_train_epoch(runner)
    assert runner.visualizer.images == []


def test_looks_inside_ddp(distiller_cfg):
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = build(distiller_cfg())
    runner = make_runner(wrapper)
    hook = TeacherCalibrationHook(interval=1)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert wrapper.module.teacher.calibrator._forward_hooks


def logged(runner):
    """Names of what was logged."""
    return sorted(key[len('train/'):-len('_ece')]
                  for key in runner.message_hub.log_scalars
                  if key.endswith('_ece'))


def errors_of(distill_groups, activation):
    """ECE of teacher and student, from what was taught, with NumPy."""
    scores, targets = [], []
    for logits in (
            lambda distill_group: distill_group.logits,
            lambda distill_group: distill_group.samples.logits.detach()):
        confidence, right = [], []
        for distill_group in distill_groups:
            labels = distill_group.samples.labels.numpy()
            rows = logits(distill_group).double()
            if activation == 'softmax':
                pairs = top_label(rows.softmax(1).numpy(), labels)
                confidence.append(pairs[0])
                right.append(pairs[1])
                continue
            rows = rows.sigmoid().numpy()
            is_scored = (rows > 0.05) & (distill_group.samples.weight.numpy()
                                         > 0)[:, None]
            is_right = labels[:, None] == np.arange(rows.shape[1])
            confidence.append(rows[is_scored])
            right.append(is_right[is_scored])
        scores.append(np.concatenate(confidence))
        targets.append(np.concatenate(right))
    return [
        calibration_error(one, right, 15).ece
        for one, right in zip(scores, targets)
    ]


@pytest.mark.parametrize(
    'teacher, student, activation',
    [
        ('faster', 'retinanet', 'sigmoid'),
        ('retinanet', 'faster', 'softmax'),
        # Of the same classes and activation, but with other anchors.
        ('gfl', 'retinanet', 'sigmoid'),
    ])
def test_teacher_of_another_family(tmp_path, training_step, teacher, student,
                                   activation):
    """Its calibrator sees other rows: what is taught is measured."""
    cfg = pair_cfg(
        student,
        write_teacher(tmp_path, teacher),
        calibrator=FAMILIES[teacher][1])
    model = build_tiny(cfg, MODELS)
    model.teacher.build(model)
    runner = make_runner(model)
    with model.teacher.recorded_groups() as distill_groups:
        train(TeacherCalibrationHook(interval=1), runner, training_step, 1)
    assert logged(runner) == ['calibrated_teacher', 'student']
    expected = errors_of(distill_groups, activation)
    for name, error in zip(logged(runner), expected):
        value = runner.message_hub.get_scalar(f'train/{name}_ece').current()
        assert value == pytest.approx(error, abs=1e-6)
    assert expected[0] != expected[1]
    # Nothing goes on recording.
    del distill_groups
    before = num_alive(DistillationGroup)
    training_step(model)
    assert num_alive(DistillationGroup) == before


def num_alive(cls):
    """Number of the instances of a class that something refers to."""
    gc.collect()
    return sum(type(one) is cls for one in gc.get_objects())


def write_names(teacher, names):
    checkpoint = torch.load(teacher['checkpoint'])
    checkpoint['meta'] = dict(dataset_meta=dict(classes=names))
    torch.save(checkpoint, teacher['checkpoint'])
    return teacher


@pytest.mark.parametrize('names, is_same', [('abc', True), ('acb', False),
                                            ('abx', False)])
def test_teacher_of_other_classes(distiller_cfg, teacher_files, training_step,
                                  monkeypatch, names, is_same):
    """What it says before its calibrator is not of the student's classes."""
    teacher = write_names(teacher_files(), tuple(names))
    model = build(distiller_cfg(teacher))
    hub = MessageHub.get_current_instance()
    monkeypatch.setitem(hub.runtime_info, 'dataset_meta',
                        dict(classes=tuple('abc')))
    runner = make_runner(model)
    with model.teacher.recorded_groups() as distill_groups:
        train(TeacherCalibrationHook(interval=1), runner, training_step, 1)
    assert logged(runner) == ['calibrated_teacher', 'student'
                              ] + (['teacher'] if is_same else [])
    for name, error in zip(
            logged(runner), errors_of(distill_groups, 'softmax')):
        value = runner.message_hub.get_scalar(f'train/{name}_ece').current()
        assert value == pytest.approx(error, abs=1e-6)


def test_several_teachers(distiller_cfg, teacher_files, training_step,
                          tables_instead_of_figures):
    cfg = distiller_cfg()
    cfg.teacher = {
        name:
        dict(
            teacher_files(seed=seed, name=name),
            calibrator=dict(type='TemperatureScaling', temperature=2.0))
        for seed, name in enumerate(('first', 'second', 'unused'), start=1)
    }
    cfg.teacher.weights = dict(first=3.0, second=1.0, unused=0.0)
    cfg.distill_losses.loss_kd_first = dict(
        type='LogitKLDivLoss', teacher='first')
    model = build(cfg)
    runner = make_runner(model)
    hook = TeacherCalibrationHook(interval=1)
    teachers = model.teacher.teachers
    with model.teacher.recorded_groups() as mixture, \
            teachers['second'].recorded_groups() as second:
        hook.before_train_iter(runner, 0)
        training_step(model)
        hook.after_train_iter(runner, 0)
    assert not teachers['unused'].is_built
    assert logged(runner) == sorted(
        [f'{name}/{key}' for name in ('first', 'second')
         for key in NAMES] + ['calibrated_teacher', 'student'])
    for folder, distill_groups in (('', mixture), ('second/', second)):
        for name, error in zip(('calibrated_teacher', 'student'),
                               errors_of(distill_groups, 'softmax')):
            value = runner.message_hub.get_scalar(
                f'train/{folder}{name}_ece').current()
            assert value == pytest.approx(error, abs=1e-6)
    hook.after_train_epoch(runner)
    assert {
        name: list(tables)
        for name, tables, _ in runner.visualizer.images
    } == {
        'train_reliability': ['Calibrated teacher', 'Student'],
        'train_reliability_first':
        ['Teacher', 'Calibrated teacher', 'Student'],
        'train_reliability_second':
        ['Teacher', 'Calibrated teacher', 'Student'],
    }


def samples(logits, **kwargs):
    return ClassificationSamples(
        logits=logits,
        image_index=torch.zeros(len(logits), dtype=torch.long),
        location=None,
        **kwargs)


def measure(logits, predictions=top_classes, **kwargs):
    """The tables of one group in which all models say the same."""
    group = samples(logits, **kwargs)
    return make_tables([predictions(group, logits, logits)], 15)


@pytest.mark.parametrize('predictions', [top_classes, scored_pairs])
@pytest.mark.parametrize('labels', [None, torch.zeros(0, dtype=torch.long)])
def test_step_without_samples_measures_nothing(labels, predictions):
    assert measure(torch.zeros(0, 4), predictions, labels=labels) == {}


@pytest.mark.parametrize('predictions', [top_classes, scored_pairs])
def test_diverged_model_does_not_end_the_run(predictions):
    logits = torch.full((2, 4), float('nan'))
    assert measure(logits, predictions, labels=torch.tensor([0, 1])) == {}


def test_half_precision_is_widened():
    logits = torch.tensor([[4.0, 1.0, 0.0]], dtype=torch.bfloat16)
    table = measure(logits, labels=torch.tensor([0]))['student']
    expected = float(logits.double().softmax(1).max())
    assert np.nansum(table.mean_confidence) == pytest.approx(expected)


class TestScoredPairs:
    """Two classes; scores of .5, .25, .9 and .02 by hand."""

    scores = torch.tensor([[.5, .25], [.9, .02], [.7, .7]])
    # The third sample is ignored, the second is background.
    group = dict(
        labels=torch.tensor([1, 2, 0]), weight=torch.tensor([1., 1., 0.]))

    def rows(self, teacher=None, calibrated=None, **kwargs):
        student = self.scores.logit()
        teacher = student if teacher is None else teacher.logit()
        calibrated = teacher if calibrated is None else calibrated.logit()
        predictions = scored_pairs(
            samples(student, **dict(self.group, **kwargs)), teacher,
            calibrated)
        return {
            name:
            [(round(score, 6), target)
             for score, target in zip(confidence.tolist(), targets.tolist())]
            for name, (confidence, targets) in predictions.items()
        }

    def test_chosen_by_score_and_never_by_label(self):
        assert self.rows()['student'] == [(.5, 0), (.25, 1), (.9, 0)]

    def test_target_is_the_quality(self):
        quality = torch.tensor([.75, 0., 1.])
        assert self.rows(quality=quality)['student'] == [(.5, 0), (.25, .75),
                                                         (.9, 0)]

    def test_calibrator_changes_the_scores_not_the_choice(self):
        teacher = torch.full((3, 2), .01)
        teacher[0, 1] = .1
        calibrated = torch.full((3, 2), .5)
        calibrated[0, 1] = .03
        rows = self.rows(teacher, calibrated)
        assert rows['teacher'] == [(.1, 1)]
        assert rows['calibrated_teacher'] == [(.03, 1)]
        assert len(rows['student']) == 3

    def test_levels_are_one_table(self):
        rows = []
        for labels in ([0, 2, 2], [2, 2, 2]):
            group = samples(self.scores.logit(), labels=torch.tensor(labels))
            rows.append(scored_pairs(group, group.logits, group.logits))
        table = make_tables(rows, 2)['teacher']
        # At most one half: .5 and .25 of both levels; one .5 was right.
        assert table.count.tolist() == [4, 6]
        assert table.mean_confidence[0] == pytest.approx(.375)
        assert table.mean_target.tolist() == [.25, 0]


@pytest.mark.parametrize('student', [True, False])
def test_model_without_a_teacher(detector_cfg, distiller_cfg, student):
    cfg = detector_cfg() if student else distiller_cfg(losses={})
    hook = HOOKS.build(dict(type='tcal_det.TeacherCalibrationHook'))
    with pytest.raises(
            InvalidTypeError, match='needs a Calib.*FasterRCNN.*remove the'):
        hook.before_train(make_runner(MODELS.build(cfg)))


def test_model_that_learns_from_features_only(distiller_cfg):
    cfg = distiller_cfg(losses=dict(loss_pkd=dict(type='PKDLoss')))
    hook = HOOKS.build(dict(type='tcal_det.TeacherCalibrationHook'))
    with pytest.raises(InvalidValueError, match=r"\['loss_pkd'\].*remove"):
        hook.before_train(make_runner(MODELS.build(cfg)))


@pytest.mark.parametrize('argument', ['interval', 'num_bins'])
def test_bad_arguments(argument):
    with pytest.raises(InvalidValueError, match=f'`{argument}`'):
        TeacherCalibrationHook(**{argument: 0})
    with pytest.raises(InvalidTypeError, match=f'`{argument}`'):
        TeacherCalibrationHook(**{argument: 1.5})
