"""The first steps show a teacher that cannot teach."""
import glob
import logging

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

from tcal_det.errors import InvalidValueError
from tcal_det.models.class_names import (checkpoint_class_names,
                                         dataset_class_names, plain_spelling)
from tcal_det.models.distillers import teacher_check, teacher_log
from tcal_det.models.distillers.distillation_group import DistillationGroup
from tcal_det.models.distillers.teacher_check import STEPS, TeacherCheck
from tcal_det.models.head_adapters import ClassificationSamples, Observation
from tcal_det.registry import MODELS

NUM_CLASSES = 3


@pytest.fixture
def logged(monkeypatch):
    """What is logged: pairs of level and text."""
    lines = []

    def note(text, logger=None, level=logging.INFO):
        assert logger == 'current'
        lines.append((level, text))

    monkeypatch.setattr(teacher_check, 'print_log', note)
    return lines


def answers(classes):
    """Logits of a teacher that answers with these classes."""
    return 5 * torch.nn.functional.one_hot(
        torch.as_tensor(classes), NUM_CLASSES + 1).float()


def distill_group(labels, given, by_student=None):
    """Samples of these classes, and answers of teacher and student."""
    given = torch.as_tensor(given)
    if labels is not None:
        labels = torch.as_tensor(labels)
    own = answers(given if by_student is None else by_student)
    samples = ClassificationSamples(
        own, torch.zeros_like(given), None, labels=labels)
    return DistillationGroup(samples, answers(given), NUM_CLASSES)


def run_steps(check, labels, given, steps=STEPS, by_student=None):
    for _ in range(steps):
        check.observe([distill_group(labels, given, by_student)])


def test_mean_over_classes_of_the_share_that_is_right(logged):
    """4 of 6, 1 of 4, none of class 2, 9 of 10 in background (3)."""
    labels = [0] * 6 + [1] * 4 + [3] * 10
    given = [0] * 4 + [3] * 2 + [1] + [2] * 3 + [3] * 9 + [0]
    check = TeacherCheck()
    run_steps(check, labels, given)
    assert check.is_finished
    (level, text), = logged
    expected = 100 * (4 / 6 + 1 / 4 + 9 / 10) / 3
    assert level == logging.INFO and f'{expected:.1f} % of the RoIs' in text
    assert '3 classes with background, 100 foreground RoIs' in text
    assert 'chance is 33.3 %' in text


@pytest.mark.parametrize('answer', range(NUM_CLASSES + 1))
def test_one_answer_to_everything_is_chance(logged, answer):
    """Though 9 of 10 foreground RoIs are of class 0."""
    labels = [0] * 90 + [1] * 10 + [3] * 300
    check = TeacherCheck()
    run_steps(check, labels, [answer] * len(labels))
    (_, text), (level, warning) = logged
    share = 0.0 if answer == 2 else 100 / 3
    assert text.startswith(f'Teacher: {share:.1f} % ')
    assert level == logging.WARNING and 'hardly better than chance' in warning


def test_random_answers_are_warned_of(logged):
    generator = torch.Generator().manual_seed(0)
    check = TeacherCheck()
    for _ in range(STEPS):
        labels, given = torch.randint(0, 4, (2, 200), generator=generator)
        check.observe([distill_group(labels, given)])
    assert len(logged) == 2 and logged[1][0] == logging.WARNING


def test_good_teacher_of_another_order_is_warned_of(logged):
    """Only its background is where the student's is."""
    labels = torch.arange(400) % 4
    order = torch.tensor([1, 2, 0, 3])
    run_steps(TeacherCheck(), labels, labels)
    assert [level for level, _ in logged] == [logging.INFO]
    logged.clear()
    check = TeacherCheck()
    run_steps(check, labels, order[labels])
    assert '25.0 % of the RoIs' in logged[0][1]
    assert logged[1][0] == logging.WARNING


def test_it_waits_for_a_hundred_foreground_rois(logged):
    labels = [0, 1, 3, 3]
    check = TeacherCheck()
    run_steps(check, labels, labels, 5 * STEPS - 1)
    check.observe([distill_group(None, [0, 1])])
    assert not logged and not check.is_finished
    run_steps(check, labels, labels)
    assert check.is_finished and len(logged) == 1
    assert '118 foreground RoIs' in logged[0][1]


def test_one_class_alone_says_nothing(logged):
    """Every answer is as good as chance there."""
    check = TeacherCheck()
    run_steps(check, [1] * 50, [1] * 50)
    assert not logged and not check.is_finished


@pytest.mark.parametrize('metainfo, names', [
    (dict(classes=('a', 'b')), ('a', 'b')),
    (dict(CLASSES=['a', 'b']), ('a', 'b')),
    (dict(classes='ab'), None),
    (dict(classes=()), None),
    (dict(classes=None), None),
    (dict(classes=(1, 2)), None),
    (dict(), None),
    (None, None),
])
def test_names_of_a_data_set_and_of_a_checkpoint(metainfo, names):
    assert dataset_class_names(metainfo) == names
    in_mmdet_3 = dict(meta=dict(dataset_meta=metainfo), state_dict={})
    in_mmdet_2 = dict(meta=metainfo, state_dict={})
    for checkpoint in (in_mmdet_3, in_mmdet_2):
        assert checkpoint_class_names(checkpoint) == names
    assert checkpoint_class_names({}) is None


@pytest.mark.parametrize('name, other, are_alike', [
    ('Traffic light', 'traffic_light', True),
    ('traffic-light', 'trafficlight', True),
    ('Straße', 'STRASSE', True),
    ('car 1', 'car 2', False),
])
def test_spelling(name, other, are_alike):
    assert (plain_spelling(name) == plain_spelling(other)) == are_alike


class FewScenes(Dataset):
    """A batch of the tests, scene by scene."""

    def __init__(self, data, metainfo):
        self.data = data
        if metainfo is not None:
            self.metainfo = metainfo

    def __len__(self):
        return len(self.data['inputs'])

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.data.items()}


@pytest.fixture
def train(tmp_path, teacher_files, distiller_cfg, batch):
    """Take a few steps with mmengine's Runner; return its log."""

    def run(teacher_meta, student_meta, steps=1):
        teacher = teacher_files()
        content = torch.load(teacher['checkpoint'])
        if teacher_meta is not None:
            content['meta'] = teacher_meta
        torch.save(content, teacher['checkpoint'])
        work_dir = tmp_path / 'run'
        runner = Runner(
            model=MODELS.build(distiller_cfg(teacher=teacher)),
            work_dir=str(work_dir),
            train_dataloader=dict(
                dataset=FewScenes(batch(num_boxes=20), student_meta),
                sampler=dict(type='InfiniteSampler', shuffle=False),
                collate_fn=dict(type='pseudo_collate'),
                batch_size=2,
                num_workers=0),
            train_cfg=dict(by_epoch=False, max_iters=steps),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
            default_scope='mmdet',
            cfg=dict(logged_in_the_beginning=True),
            experiment_name=f'run_of_{tmp_path.name}')
        runner.train()
        path, = glob.glob(str(work_dir / '*' / '*.log'))
        with open(path, encoding='utf-8') as file:
            return file.read()

    return run


def meta(*classes):
    return dict(dataset_meta=dict(classes=classes))


def test_log_of_a_run_shows_the_teacher_after_the_config(train):
    log = train(meta('a', 'b', 'c'), dict(classes=('a', 'b', 'c')), STEPS)
    shown = log[log.index('Teacher: FasterRCNN'):]
    assert 'logged_in_the_beginning' in log
    assert 'logged_in_the_beginning' not in shown
    lines = [line.strip() for line in shown.splitlines()[:6]]
    assert lines[0].endswith(' parameters')
    assert lines[1].startswith('config: ') and "teacher.py'" in lines[1]
    assert lines[2].startswith('checkpoint: ') and "teacher.pth'" in lines[2]
    assert lines[3] == '3 classes: a, b, c'
    assert lines[4] == 'calibrator: TemperatureScaling(temperature=1.5)'
    assert lines[5] == 'transport: same_samples'
    assert 'foreground RoIs' in shown
    assert 'Teacher and student share' not in log
    # All samples have an answer: nothing is counted.
    assert 'answers for' not in log


def test_classes_in_another_order_are_paired_by_name(train):
    log = train(
        meta('cell', 'zebra', 'Horse'), dict(classes=('horse', 'cell', 'b')))
    shown = log[log.index('Teacher and student share 2 classes:'):]
    assert [line.strip() for line in shown.splitlines()[1:6]] == [
        'student  teacher',
        '0 horse  2 Horse',
        '1 cell   0 cell',
        "classes of the student only: 1 ('b')",
        "classes of the teacher only: 1 ('zebra')",
    ]


def test_no_shared_class(train):
    with pytest.raises(InvalidValueError, match='must share a class') as info:
        train(meta('x', 'y', 'z'), dict(classes=('a', 'b', 'c')))
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('teacher_meta, student_meta', [
    (None, dict(classes=('a', 'b', 'c'))),
    (dict(epoch=3), dict(classes=('a', 'b', 'c'))),
    (meta('x', 'y', 'z'), None),
    (meta('x', 'y', 'z'), dict(classes=('a', 'b'))),
    (meta('x', 'y'), dict(classes=('a', 'b', 'c'))),
])
def test_unknown_names_are_not_compared(train, teacher_meta, student_meta):
    log = train(teacher_meta, student_meta)
    assert 'Teacher and student share' not in log
    if teacher_meta != meta('x', 'y', 'z'):
        assert '3 classes: names unknown' in log


def test_after_the_first_steps_nothing_is_looked_at(distiller_cfg, batch,
                                                    monkeypatch):
    checked, observe = [], TeacherCheck.observe

    def counted(check, distill_groups):
        checked.append(check)
        observe(check, distill_groups)

    monkeypatch.setattr(TeacherCheck, 'observe', counted)
    model = MODELS.build(distiller_cfg()).train()
    data = model.data_preprocessor(batch(num_boxes=20), True)
    for step in range(STEPS + 2):
        assert len(checked) == min(step, STEPS)
        model(**data, mode='loss')
    assert len(checked) == STEPS


def test_the_student_is_told_beside_the_teacher(logged):
    labels = [0] * 60 + [1] * 40 + [3] * 100
    given = [0] * 60 + [3] * 140
    by_student = [0] * 30 + [3] * 170
    run_steps(TeacherCheck(), labels, given, by_student=by_student)
    (_, text), = logged
    assert text.endswith('On foreground RoIs alone: teacher 60.0 %, student '
                         '30.0 %')


class TestThatStops:
    """`teacher.check=True`."""

    def test_good_teacher_goes_on_after_the_first_batch(self, logged):
        labels = torch.arange(400) % 4
        check = TeacherCheck(stops=True)
        run_steps(check, labels, labels, steps=1)
        assert check.is_finished
        (level, text), = logged
        assert level == logging.INFO and 'first 1 step are predicted' in text

    @pytest.mark.parametrize('given', [
        torch.full((400, ), 3),
        torch.tensor([1, 2, 0, 3])[torch.arange(400) % 4],
    ])
    def test_teacher_no_better_than_chance(self, logged, given):
        with pytest.raises(InvalidValueError) as info:
            run_steps(
                TeacherCheck(stops=True),
                torch.arange(400) % 4,
                given,
                steps=1)
        message = str(info.value)
        assert '25.0 %, chance is 25.0 %' in message
        for cause in ('`teacher.checkpoint` is trained', 'order of its class',
                      '`data_preprocessor`'):
            assert cause in message
        assert '\n' not in message
        # What it saw is in the log too.
        assert len(logged) == 1

    def test_it_waits_for_a_hundred_foreground_rois(self, logged):
        check = TeacherCheck(stops=True)
        labels = [0, 1] * 20 + [3] * 40
        run_steps(check, labels, [3] * 80, steps=2)
        assert not check.is_finished and not logged
        with pytest.raises(InvalidValueError, match='chance'):
            run_steps(check, labels, [3] * 80, steps=1)

    def test_the_counts_of_all_ranks_are_one(self, logged, monkeypatch):
        """Else one rank would stop, and the others wait for it."""

        def add_those_of_another_rank(counts):
            counts += torch.tensor([[50, 50, 0, 100]] * 3)

        monkeypatch.setattr(teacher_check, 'all_reduce',
                            add_those_of_another_rank)
        for labels, foreground in (([0, 3], 101), (None, 100)):
            check = TeacherCheck(stops=True)
            run_steps(check, labels, [3, 0], steps=1)
            assert check.is_finished
            assert f'{foreground} foreground RoIs' in logged.pop()[1]

    def test_a_run_stops(self, distiller_cfg, teacher_files, batch):
        """A teacher that takes every RoI for class 0."""
        teacher = teacher_files()
        content = torch.load(teacher['checkpoint'])
        content['state_dict']['roi_head.bbox_head.fc_cls.weight'].zero_()
        content['state_dict']['roi_head.bbox_head.fc_cls.bias'].copy_(
            torch.tensor([9., 0., 0., 0.]))
        torch.save(content, teacher['checkpoint'])
        model = MODELS.build(
            distiller_cfg(teacher=dict(teacher, check=True))).train()
        data = model.data_preprocessor(batch(num_boxes=20), True)
        with pytest.raises(InvalidValueError, match='`teacher.check` found'):
            for _ in range(STEPS):
                model(**data, mode='loss')


def test_samples_with_a_counterpart_are_counted(monkeypatch):
    """Of the groups that are taught, in the first steps."""
    logged = []
    monkeypatch.setattr(
        teacher_log, 'print_log', lambda text, logger, level: logged.append(
            (level, text)))
    group = distill_group([0] * 8, [0] * 8).samples
    part = distill_group([0, 1], [0, 1])
    part.index = torch.tensor([3, 5])
    count = teacher_log.CounterpartCount('queries')
    observation = Observation([group])
    for _ in range(STEPS):
        assert not count.is_finished
        count.observe([part], observation)
    assert count.is_finished
    assert logged == [(logging.INFO,
                       'Teacher: answers for 20 of the 80 queries of the '
                       'first 10 steps (25.0 %)')]
    part = distill_group([], torch.zeros(0, dtype=torch.long))
    part.index = torch.zeros(0, dtype=torch.long)
    count = teacher_log.CounterpartCount('queries')
    for _ in range(STEPS):
        count.observe([part], observation)
    assert logged[1][0] == logging.WARNING
