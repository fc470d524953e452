"""Calibrators read from files, as a training config names them."""
import json

import pytest
import torch

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.fileio import write_json_atomically
from tcal_det.models.calibrators import (FocalPosterior, MaxLogitScaling,
                                         PlattScaling, TemperatureScaling,
                                         VectorScaling)
from tcal_det.registry import MODELS

CALIBRATORS = [
    TemperatureScaling(temperature=2.0, softening=1.2, cls_channels=5),
    TemperatureScaling(temperature=0.3, activation='sigmoid'),
    VectorScaling(scale=[0.5, 0.7, 0.9], bias=[0.1, 0.2, -0.3]),
    PlattScaling(scale=0.4, bias=-1.0, cls_channels=4),
    TemperatureScaling(0.3, softening=1.2, activation='sigmoid', base_rate=.2),
    PlattScaling(scale=2.0, bias=1.0, softening=0.9, base_rate=0.01),
    FocalPosterior(alpha=0.4, gamma=1.5, cls_channels=3),
    FocalPosterior(softening=1.3, base_rate=0.05),
    MaxLogitScaling(ratio=4.5, cls_channels=3),
]


@pytest.mark.parametrize('calibrator', CALIBRATORS, ids=str)
@pytest.mark.parametrize('is_bare', [True, False])
def test_round_trip(tmp_path, calibrator, is_bare):
    path = str(tmp_path / 'teacher_calibration.json')
    stored = calibrator.to_json_dict()
    write_json_atomically(
        path, stored if is_bare else dict(
            calibrator=stored, objective='nll', sweep=[1, 2]))
    config = dict(type=type(calibrator).__name__, load_from=path)
    loaded = MODELS.build(dict(config, _scope_='tcal_det'))
    assert loaded.to_json_dict() == stored
    logits = torch.randn(3, calibrator.cls_channels or 2)
    assert torch.equal(loaded(logits), calibrator(logits))


@pytest.fixture
def file(tmp_path):
    """A function that writes a file and returns its path."""

    def write(content):
        path = tmp_path / 'calibration.json'
        path.write_text(
            content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def test_softening_given_beside_the_file_wins(file):
    path = file(CALIBRATORS[0].to_json_dict())
    assert TemperatureScaling(load_from=path).softening == 1.2
    softer = TemperatureScaling(load_from=path, softening=1.5)
    assert softer.effective_temperature == 3.0


@pytest.mark.parametrize('given', [
    dict(temperature=2.0),
    dict(cls_channels=5),
    dict(activation='softmax', softening=2.0),
    dict(base_rate=0.1),
])
def test_other_arguments_beside_the_file_are_refused(file, given):
    path = file(CALIBRATORS[0].to_json_dict())
    with pytest.raises(
            InvalidValueError, match='`load_from` must not.*remove one'):
        TemperatureScaling(load_from=path, **given)


def test_the_files_scope_prefix_is_accepted(file):
    path = file(dict(type='tcal_det.TemperatureScaling', temperature=2.0))
    assert TemperatureScaling(load_from=path).temperature == 2.0


@pytest.mark.parametrize('kind, parameters', [
    ('TemperatureScaling', dict(temperature=2.0, activation='softmax')),
    ('PlattScaling', dict(scale=0.5, bias=1.0)),
])
@pytest.mark.parametrize('is_bare', [True, False])
def test_files_of_earlier_versions_call_the_columns_classes(
        file, kind, parameters, is_bare):
    stored = dict(type=kind, num_classes=81, **parameters)
    path = file(
        stored if is_bare else dict(
            calibrator=stored, num_classes_with_background=81))
    config = dict(type=kind, load_from=path, _scope_='tcal_det')
    loaded = MODELS.build(config)
    assert loaded.cls_channels == 81
    assert 'num_classes' not in loaded.to_json_dict()
    with pytest.raises(InvalidValueError, match='81 columns.*has 4'):
        loaded.check_cls_channels(4)


def test_a_file_with_the_old_and_the_new_name_is_refused(file):
    path = file(
        dict(CALIBRATORS[0].to_json_dict(), num_classes=4, cls_channels=5))
    with pytest.raises(InvalidValueError, match='must have the keys'):
        TemperatureScaling(load_from=path)


def test_softening_beside_a_file_without_base_rate(file):
    path = file(dict(type='PlattScaling', scale=2.0, bias=1.0))
    PlattScaling(load_from=path).check_cls_channels(80)
    softer = PlattScaling(load_from=path, softening=1.2)
    with pytest.raises(InvalidValueError, match='`base_rate`.*softening=1.2'):
        softer.check_cls_channels(80)


@pytest.mark.parametrize('missing', ['alpha', 'gamma'])
def test_a_focal_posterior_without_its_loss(file, missing):
    stored = FocalPosterior().to_json_dict()
    del stored[missing]
    with pytest.raises(InvalidValueError, match='are required'):
        FocalPosterior(load_from=file(stored))


def test_missing_file(tmp_path):
    with pytest.raises(
            MissingFileError,
            match='nowhere.json.*does not exist.*calibrate_teacher'):
        TemperatureScaling(load_from=str(tmp_path / 'nowhere.json'))


def test_a_folder(tmp_path):
    with pytest.raises(InvalidValueError, match='cannot be read'):
        TemperatureScaling(load_from=str(tmp_path))


def test_not_a_path():
    with pytest.raises(InvalidTypeError, match='path of a JSON file.*got 3'):
        TemperatureScaling(load_from=3)


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / 'calibration.json'
    path.write_bytes(b'\x80\x02}q\x00\xff')
    with pytest.raises(InvalidValueError, match='cannot be read as JSON'):
        TemperatureScaling(load_from=str(path))


@pytest.mark.parametrize('content', [
    '{"type": "TemperatureScaling", "tempera',
    '',
    '[1, 2]',
    'null',
    '{"calibrator": null}',
    '{"temperature": 2.0}',
    '{"type": 3, "temperature": 2.0}',
    '{"type": ["TemperatureScaling"], "temperature": 2.0}',
    pytest.param('[' * 100000, id='nested too deeply'),
])
def test_content_that_is_no_calibrator(file, content):
    with pytest.raises(InvalidValueError, match='calibration.json.*calibrate'):
        TemperatureScaling(load_from=file(content))


@pytest.mark.parametrize('content, message', [
    (dict(temperature=None), 'temperature'),
    (dict(temperature=-2.0), r'`temperature`.*\(0, inf\).*calibration.json'),
    (dict(temperature='2'), "`temperature`.*'2'.*calibration.json"),
    (dict(), 'required'),
    (dict(temperature=2.0, scale=3), 'must have the keys'),
    (dict(temperature=True), '`temperature`.*bool.*calibration.json.*fit it'),
    (dict(temperature=[2.0]), '`temperature`.*list.*calibration.json'),
    (dict(temperature=float('nan')), '`temperature`.*nan'),
    (dict(temperature=1e-60), 'temperature.*float32'),
    (dict(temperature=10**400), '`temperature`.*inf'),
    (dict(temperature=2.0, softening='1'), '`softening`'),
    (dict(temperature=2.0, activation=['softmax']), '`activation`'),
    (dict(temperature=2.0, cls_channels=5.0), '`cls_channels`.*whole'),
    (dict(temperature=2.0, cls_channels=True), '`cls_channels`.*whole'),
    (dict(temperature=2.0, cls_channels=0), '`cls_channels`.*>= 1'),
])
def test_parameters_that_are_wrong(file, content, message):
    path = file(dict(content, type='TemperatureScaling'))
    with pytest.raises(InvalidValueError, match=message):
        TemperatureScaling(load_from=path)


def test_the_file_holds_another_type(file):
    path = file(CALIBRATORS[2].to_json_dict())
    with pytest.raises(
            InvalidValueError,
            match="holds a VectorScaling.*write type='VectorScaling'"):
        TemperatureScaling(load_from=path)


def test_a_recalibration_is_another_thing(file):
    """Of recalibrate.py: the two files are easily mixed up."""
    path = file(dict(calibrator=dict(type='isotonic', scores=[0.5])))
    with pytest.raises(InvalidValueError, match='holds a isotonic.*fit it'):
        TemperatureScaling(load_from=path)


def test_messages_are_one_line(file):
    with pytest.raises(InvalidValueError) as caught:
        TemperatureScaling(load_from=file('{"type":\n\n"Temp'))
    assert '\n' not in str(caught.value)
