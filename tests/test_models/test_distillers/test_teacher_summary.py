"""What the log says of the teacher, at the edges of its counts."""
import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

from tcal_det.models.distillers import teacher_check
from tcal_det.models.distillers.distillation_group import DistillationGroup
from tcal_det.models.distillers.frozen_teacher import FrozenTeacher
from tcal_det.models.distillers.teacher_check import STEPS, TeacherCheck
from tcal_det.models.head_adapters import ClassificationSamples


def summary(teacher, detector, names):
    teacher._class_names = names
    adapter = SimpleNamespace(detector=detector, num_classes=len(names))
    return teacher._summary(adapter, 'zoo/b.pth', 'same_samples')


@pytest.mark.parametrize('calibrator, words', [
    (None, 'none, raw logits'),
    (dict(type='TemperatureScaling',
          temperature=2.), 'TemperatureScaling(temperature=2.0)'),
])
def test_summary_line_by_line(calibrator, words):
    teacher = FrozenTeacher(dict(model={}), 'a.pth', calibrator)
    lines = summary(teacher, nn.Linear(1000, 2), ('red', 'blue')).splitlines()
    assert lines[0] == '' and lines[1] == lines[-1]
    assert lines[2:-1] == [
        'Teacher: Linear, 2,002 parameters',
        '    config: the given dict',
        "    checkpoint: 'zoo/b.pth'",
        '    2 classes: red, blue',
        f'    calibrator: {words}',
        '    transport: same_samples',
    ]


@pytest.mark.parametrize('number, ending', [(10, 'c8, c9'),
                                            (11, 'c8, c9, ...')])
def test_summary_names_ten_classes(number, ending):
    teacher = FrozenTeacher(dict(model={}), 'a.pth')
    names = [f'c{label}' for label in range(number)]
    text = summary(teacher, nn.Linear(1, 1), names)
    assert f'{number} classes: c0, c1, ' in text
    assert f', {ending}\n' in text and 'c10' not in text


@pytest.mark.parametrize('given, levels', [
    ([0, 1], [logging.INFO]),
    ([1, 0], [logging.INFO, logging.WARNING]),
])
def test_two_classes_are_enough_to_judge_by(given, levels, monkeypatch):
    """One class and background, all right or all wrong."""
    logged = []

    def note(text, logger, level=logging.INFO):
        logged.append((level, text))

    monkeypatch.setattr(teacher_check, 'print_log', note)
    check = TeacherCheck()
    logits = nn.functional.one_hot(torch.tensor(given)).float().repeat(20, 1)
    samples = ClassificationSamples(
        logits, torch.zeros(40), None, labels=torch.tensor([0, 1] * 20))
    for _ in range(STEPS):
        check.observe([DistillationGroup(samples, logits, 1)])
    assert check.is_finished
    assert [level for level, _ in logged] == levels
    assert 'mean over 2 classes with background' in logged[0][1]
    for _, text in logged[1:]:
        assert text.startswith('The teacher is hardly better than chance')
