"""The first steps show a teacher that cannot teach."""
import glob
import logging

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

from tcal_det.errors import InvalidValueError
from tcal_det.models.class_names import (checkpoint_class_names,
                                         dataset_class_names, differing_class)
from tcal_det.models.distillers import teacher_check
from tcal_det.models.distillers.teacher_check import STEPS, TeacherCheck
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


def run_steps(check, labels, given, steps=STEPS):
    for _ in range(steps):
        check.observe([answers(given)], [torch.as_tensor(labels)])


def test_mean_over_classes_of_the_share_that_is_right(logged):
    """4 of 6, 1 of 4, none of class 2, 9 of 10 in background (3)."""
    labels = [0] * 6 + [1] * 4 + [3] * 10
    given = [0] * 4 + [3] * 2 + [1] + [2] * 3 + [3] * 9 + [0]
    check = TeacherCheck(NUM_CLASSES)
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
    check = TeacherCheck(NUM_CLASSES)
    run_steps(check, labels, [answer] * len(labels))
    (_, text), (level, warning) = logged
    share = 0.0 if answer == 2 else 100 / 3
    assert text.startswith(f'Teacher: {share:.1f} % ')
    assert level == logging.WARNING and 'hardly better than chance' in warning


def test_random_answers_are_warned_of(logged):
    generator = torch.Generator().manual_seed(0)
    check = TeacherCheck(NUM_CLASSES)
    for _ in range(STEPS):
        labels, given = torch.randint(0, 4, (2, 200), generator=generator)
        check.observe([answers(given)], [labels])
    assert len(logged) == 2 and logged[1][0] == logging.WARNING


def test_good_teacher_of_another_order_is_warned_of(logged):
    """Only its background is where the student's is."""
    labels = torch.arange(400) % 4
    order = torch.tensor([1, 2, 0, 3])
    run_steps(TeacherCheck(NUM_CLASSES), labels, labels)
    assert [level for level, _ in logged] == [logging.INFO]
    logged.clear()
    check = TeacherCheck(NUM_CLASSES)
    run_steps(check, labels, order[labels])
    assert '25.0 % of the RoIs' in logged[0][1]
    assert logged[1][0] == logging.WARNING


def test_it_waits_for_a_hundred_foreground_rois(logged):
    labels = [0, 1, 3, 3]
    check = TeacherCheck(NUM_CLASSES)
    run_steps(check, labels, labels, 5 * STEPS - 1)
    check.observe([torch.zeros(0, NUM_CLASSES + 1)], [None])
    assert not logged and not check.is_finished
    run_steps(check, labels, labels)
    assert check.is_finished and len(logged) == 1
    assert '118 foreground RoIs' in logged[0][1]


def test_one_class_alone_says_nothing(logged):
    """Every answer is as good as chance there."""
    check = TeacherCheck(NUM_CLASSES)
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


@pytest.mark.parametrize('names, others, label', [
    (('a', 'b'), ('a', 'b'), None),
    (('a', 'b', 'c'), ('a', 'c', 'b'), 1),
    (('Traffic light', ), ('traffic_light', ), None),
    (('traffic-light', ), ('trafficlight', ), None),
    (('Straße', ), ('STRASSE', ), None),
    (('a', 'car 1'), ('a', 'car 2'), 1),
])
def test_first_class_that_differs(names, others, label):
    assert differing_class(names, others) == label


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
    lines = [line.strip() for line in shown.splitlines()[:5]]
    assert lines[0].endswith(' parameters')
    assert lines[1].startswith('config: ') and "teacher.py'" in lines[1]
    assert lines[2].startswith('checkpoint: ') and "teacher.pth'" in lines[2]
    assert lines[3] == '3 classes: a, b, c'
    assert lines[4] == ('calibrator: TemperatureScaling(temperature=1.5)')
    assert 'foreground RoIs' in shown
    assert 'write their classes differently' not in log


def test_classes_in_another_order(train):
    with pytest.raises(InvalidValueError) as info:
        train(meta('a', 'zebra', 'horse'), dict(classes=('a', 'horse', 'b')))
    message = str(info.value)
    assert "class 1 is 'zebra' in `teacher.checkpoint`" in message
    assert "'horse' in the train dataset" in message
    assert '`metainfo=dict(classes=(...))`' in message


def test_classes_that_are_only_written_differently(train):
    log = train(
        meta('cell', 'Traffic Light', 'c'),
        dict(classes=('cell', 'traffic_light', 'C')))
    lines = [line for line in log.splitlines() if 'WARNING' in line]
    told = [line for line in lines if 'write their classes' in line]
    assert len(told) == 1
    assert "'Traffic Light' and 'traffic_light'" in told[0]


@pytest.mark.parametrize('teacher_meta, student_meta', [
    (None, dict(classes=('a', 'b', 'c'))),
    (dict(epoch=3), dict(classes=('a', 'b', 'c'))),
    (meta('x', 'y', 'z'), None),
    (meta('x', 'y', 'z'), dict(classes=('a', 'b'))),
    (meta('x', 'y'), dict(classes=('a', 'b', 'c'))),
])
def test_unknown_names_are_not_compared(train, teacher_meta, student_meta):
    log = train(teacher_meta, student_meta)
    assert 'write their classes' not in log
    if teacher_meta != meta('x', 'y', 'z'):
        assert '3 classes: names unknown' in log


def test_after_the_first_steps_nothing_is_looked_at(distiller_cfg, batch):
    model = MODELS.build(distiller_cfg()).train()
    data = model.data_preprocessor(batch(num_boxes=20), True)
    for _ in range(STEPS):
        assert model.teacher._check is not None or not model.teacher.is_built
        model(**data, mode='loss')
    assert model.teacher._check is None
