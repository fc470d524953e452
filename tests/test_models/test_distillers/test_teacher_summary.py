"""What the log says of the teacher, at the edges of its counts."""
import logging

import pytest
import torch
import torch.nn as nn

from tcal_det.models.distillers import frozen_teacher, teacher_check
from tcal_det.models.distillers.distillation_group import DistillationGroup
from tcal_det.models.distillers.teacher_check import STEPS, TeacherCheck
from tcal_det.models.head_adapters import ClassificationSamples
from tcal_det.registry import MODELS


@pytest.fixture
def summary(detector_cfg, teacher_files, distiller_cfg, monkeypatch):
    """Build a teacher of named classes; path of its weights and its lines."""

    def make(names, calibrator=None):
        logged = []
        monkeypatch.setattr(frozen_teacher, 'print_log',
                            lambda text, logger: logged.append(text))
        path = teacher_files(num_classes=len(names))['checkpoint']
        content = torch.load(path)
        content['meta'] = dict(dataset_meta=dict(classes=names))
        torch.save(content, path)
        teacher = dict(
            config=dict(model=detector_cfg(width=12, num_classes=len(names))),
            checkpoint=path)
        cfg = distiller_cfg(teacher, num_classes=len(names))
        cfg.teacher.calibrator = calibrator
        model = MODELS.build(cfg)
        model.teacher.build(model)
        text, = logged
        return path, text.splitlines()

    return make


@pytest.mark.parametrize('calibrator, words', [
    (None, 'none, raw logits'),
    (dict(type='TemperatureScaling',
          temperature=2.), 'TemperatureScaling(temperature=2.0)'),
])
def test_summary_line_by_line(summary, detector_cfg, calibrator, words):
    path, lines = summary(('red', 'blue'), calibrator)
    plain = MODELS.build(detector_cfg(width=12, num_classes=2))
    number = sum(weight.numel() for weight in plain.parameters())
    assert lines[0] == '' and lines[1] == lines[-1]
    assert lines[2:-1] == [
        f'Teacher: FasterRCNN, {number // 1000},{number % 1000:03d} '
        'parameters',
        '    config: the given dict',
        f'    checkpoint: {path!r}',
        '    2 classes: red, blue',
        f'    calibrator: {words}',
        '    transport: same_samples',
    ]


@pytest.mark.parametrize('number, ending', [(10, 'c8, c9'),
                                            (11, 'c8, c9, ...')])
def test_summary_names_ten_classes(summary, number, ending):
    _, lines = summary([f'c{label}' for label in range(number)])
    line, = (line for line in lines if 'classes: ' in line)
    assert line.startswith(f'    {number} classes: c0, c1, ')
    assert line.endswith(f', {ending}') and 'c10' not in line


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
