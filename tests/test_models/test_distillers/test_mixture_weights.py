"""Weights of several teachers, given or from their calibration files."""
import json
import math

import pytest

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.models.distillers.mixture_weights import (check_weights,
                                                        weights_by_likelihood)


@pytest.mark.parametrize('weights, expected', [
    (None, dict(a=1.0, b=1.0)),
    ('nll', 'nll'),
    (dict(b=0, a=2), dict(a=2.0, b=0.0)),
])
def test_weights_of_a_config(weights, expected):
    assert check_weights(weights, ['a', 'b']) == expected


@pytest.mark.parametrize('weights, error, message', [
    ('equal', InvalidTypeError, "'nll' or a dict.*'a', 'b'.*'equal'"),
    ([1, 1], InvalidTypeError, "'nll' or a dict"),
    (dict(a=1), InvalidValueError, r"each of the teachers.*has \['a'\]"),
    (dict(a=1, b=1, c=1), InvalidValueError, 'each of the teachers'),
    (dict(a=1, b=-1), InvalidValueError, '`teacher.weights.b` must be in'),
    (dict(a=1, b='1'), InvalidTypeError, '`teacher.weights.b` must be'),
    (dict(a=0, b=0), InvalidValueError, 'all are 0'),
])
def test_wrong_weights(weights, error, message):
    with pytest.raises(error, match=message) as caught:
        check_weights(weights, ['a', 'b'])
    assert '\n' not in str(caught.value)


@pytest.fixture
def calibrators(tmp_path):
    """Writes files; gives the configs that name them."""

    def write(**contents):
        configs = {}
        for name, content in contents.items():
            path = tmp_path / f'{name}.json'
            path.write_text(json.dumps(content))
            configs[name] = dict(
                type='TemperatureScaling', load_from=str(path))
        return configs

    return write


def content(nll, ann_file='val.json', **calibrator):
    return dict(
        calibrator=dict(type='TemperatureScaling', **calibrator),
        after=dict(all=dict(nll=nll)),
        data=dict(split='val', ann_files=[ann_file], num_images=40))


def test_share_is_the_geometric_mean_probability(calibrators):
    """Half of the probability for what is right: half of the weight."""
    weights = weights_by_likelihood(
        calibrators(a=content(-math.log(0.6)), b=content(-math.log(0.3))))
    assert weights == pytest.approx(dict(a=2 / 3, b=1 / 3))


def test_extreme_figures_do_not_underflow(calibrators):
    weights = weights_by_likelihood(
        calibrators(a=content(2000.0), b=content(2000.0)))
    assert weights == dict(a=0.5, b=0.5)


@pytest.mark.parametrize('other, message', [
    (content(0.5, ann_file='test.json'), 'of the same images'),
    (content(0.5, activation='sigmoid'), 'same kind of samples'),
    (content(math.nan), 'must hold the NLL'),
    (dict(calibrator=dict(type='TemperatureScaling')), 'must hold the NLL'),
    ([], 'must hold the NLL'),
])
def test_files_that_cannot_be_compared(calibrators, other, message):
    with pytest.raises(InvalidValueError, match=message) as caught:
        weights_by_likelihood(calibrators(a=content(0.5), b=other))
    assert '\n' not in str(caught.value)


def test_missing_and_broken_files(calibrators, tmp_path):
    configs = calibrators(a=content(0.5))
    for cfg in (None, dict(type='TemperatureScaling', temperature=2.0)):
        with pytest.raises(InvalidValueError, match="'b' has none: write"):
            weights_by_likelihood(dict(configs, b=cfg))
    gone = dict(type='TemperatureScaling', load_from='gone.json')
    with pytest.raises(MissingFileError, match="'gone.json' does not exist"):
        weights_by_likelihood(dict(configs, b=gone))
    broken = tmp_path / 'broken.json'
    broken.write_text('{')
    with pytest.raises(InvalidValueError, match='cannot be read'):
        weights_by_likelihood(
            dict(configs, b=dict(gone, load_from=str(broken))))
