"""Sigmoid teachers whose truth is known."""
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from tcal_det.errors import InvalidValueError
from tcal_det.models.calibrators import PlattScaling, TemperatureScaling
from tcal_det.registry import MODELS
from tcal_det.teachers import calibration as teacher_calibration
from tcal_det.teachers.calibration import (choose_calibrator,
                                           write_teacher_calibration)
from tcal_det.teachers.image_folds import fold_of_image
from tcal_det.teachers.pairs import PairSelection, PlaceSelection, TeacherPairs
from tcal_det.teachers.sigmoid_calibration import (calibrate_pairs,
                                                   measure_pairs)

NUM_IMAGES = 40
ALPHA, GAMMA = 0.25, 2.0


def make_pairs(logits, probs, seed=0, threshold=0.05, **kwargs):
    """Pairs that are true with the given probabilities."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(len(logits)) < probs).astype(np.float32)
    return as_pairs(logits, targets, threshold, **kwargs)


def as_pairs(logits, targets, threshold=0.05, scores_iou=False):
    logits = logits.astype(np.float32)
    image_ids = np.arange(len(logits)) % NUM_IMAGES

    def select(rows):
        return PairSelection(logits[rows], targets[rows], image_ids[rows],
                             len(logits[rows]))

    return TeacherPairs(
        scored=select(expit(logits) > threshold),
        all=select(slice(None)),
        # No calibrator is fitted to them.
        scored_places=PlaceSelection(np.empty(0), np.empty(0, int), 0),
        score_threshold=threshold,
        sum_scores=float(expit(logits).sum()),
        sum_targets=float(targets.sum()),
        cls_channels=5,
        num_images=NUM_IMAGES,
        scores_iou=scores_iou,
        sample_name='priors')


def draw_logits(count=60000, seed=0):
    """Logits of true probabilities: mostly background."""
    rng = np.random.default_rng(seed)
    return np.concatenate([
        rng.normal(-6, 1.5, count * 9 // 10),
        rng.normal(-1, 2.0, count // 10),
    ])


def focal_optimum(eta):
    """The score of smallest expected focal loss, by search on a grid."""
    p = np.linspace(1e-4, 1 - 1e-4, 40001)
    of_true = -ALPHA * (1 - p)**GAMMA * np.log(p)
    of_false = -(1 - ALPHA) * p**GAMMA * np.log1p(-p)
    knots = expit(np.linspace(-9, 6, 601))
    best = [p[np.argmin(k * of_true + (1 - k) * of_false)] for k in knots]
    return np.interp(eta, knots, best)


@pytest.fixture(scope='module')
def focal_pairs():
    """Of a head that has reached the minimum of focal loss."""
    eta = expit(draw_logits())
    return make_pairs(logit(focal_optimum(eta)), eta), eta


class TestFocalTeacher:

    @pytest.mark.parametrize('calibrator, tolerance', [('FocalPosterior', .01),
                                                       ('PlattScaling', .05)])
    def test_posterior_is_recovered(self, focal_pairs, calibrator, tolerance):
        pairs, eta = focal_pairs
        calibration = calibrate_pairs(
            pairs, calibrator, focal=dict(alpha=ALPHA, gamma=GAMMA))
        calibrated = calibration.calibrator(
            torch.from_numpy(pairs.all.logits[:, None]).expand(-1, 5))
        assert np.abs(calibrated[:, 0].sigmoid().numpy() -
                      eta).max() < tolerance
        before, after = (
            getattr(calibration, when)['scored']
            for when in ('before', 'after'))
        assert before.error.ece > .07 and after.error.ece < .02
        assert after.nll < before.nll
        assert before.sum_ratio > 2
        assert after.sum_ratio == pytest.approx(1, abs=.05)

    def test_scores_are_too_high_at_the_bottom(self, focal_pairs):
        """With alpha .25 and gamma 2 a score of .4 is even odds."""
        assert focal_optimum(.5) == pytest.approx(.4, abs=.01)
        pairs, _ = focal_pairs
        calibration = calibrate_pairs(pairs, 'PlattScaling')
        assert calibration.calibrator.scale > 1.5
        assert calibration.calibrator.bias > 0

    def test_temperature_is_below_one(self, focal_pairs):
        pairs, _ = focal_pairs
        assert .3 < calibrate_pairs(
            pairs, 'TemperatureScaling').calibrator.temperature < .8


class TestSelections:

    @pytest.fixture(scope='class')
    def disagreeing(self):
        """Easy negatives want T = 0.77, a few hard places 1.9."""
        rng = np.random.default_rng(0)
        easy, hard = rng.normal(-5.5, 1, 160000), rng.normal(0, 1.5, 4000)
        return make_pairs(
            np.concatenate([.77 * easy, 1.9 * hard]),
            expit(np.concatenate([easy, hard])),
            threshold=.2)

    def test_temperature_on_which_they_disagree_is_refused(self, disagreeing):
        with pytest.raises(InvalidValueError) as caught:
            calibrate_pairs(disagreeing, 'TemperatureScaling')
        message = str(caught.value)
        of_each = [
            TemperatureScaling(activation='sigmoid').fit(
                one.logits[:, None], one.targets[:, None]).temperature
            for one in (disagreeing.scored, disagreeing.all)
        ]
        assert of_each[0] > 1.5 * of_each[1]
        for temperature in of_each:
            assert f'T = {temperature:.4g}' in message
        assert 'use --calibrator PlattScaling' in message

    def test_platt_warns_only_where_it_disagrees(self, disagreeing,
                                                 focal_pairs, recwarn):
        with pytest.warns(UserWarning, match='differ by 0.*on average'):
            bad = calibrate_pairs(disagreeing, 'PlattScaling')
        assert bad.probability_gap > .05
        recwarn.clear()
        good = calibrate_pairs(focal_pairs[0], 'PlattScaling')
        assert good.probability_gap < .05 and not recwarn.list

    def test_written_are_the_scored_and_both_are_reported(self, focal_pairs):
        pairs, _ = focal_pairs
        calibration = calibrate_pairs(pairs, 'PlattScaling')
        content = calibration.to_dict()
        for name in ('scored', 'all'):
            selection = getattr(pairs, name)
            expected = PlattScaling().fit(selection.logits[:, None],
                                          selection.targets[:, None])
            found = content['calibrator_by_selection'][name]
            assert found['scale'] == pytest.approx(expected.scale)
            assert found['bias'] == pytest.approx(expected.bias)
            assert found['base_rate'] == pytest.approx(
                pairs.all.targets.mean())
            for text in (f'{expected.scale:.4g}', f'{expected.bias:.4g}'):
                assert text in calibration.table()
        assert content['calibrator'] == (
            content['calibrator_by_selection']['scored'])
        assert content['calibrator']['cls_channels'] == 5

    def test_after_is_measured_on_images_that_were_not_fitted(
            self, focal_pairs):
        pairs, _ = focal_pairs
        calibration = calibrate_pairs(pairs, 'PlattScaling', seed=3)
        fold = fold_of_image(pairs.scored.image_ids, NUM_IMAGES, 3)
        assert sorted(np.bincount(fold)) == [20, 20]
        for name in ('scored', 'all'):
            selection = getattr(pairs, name)
            nll = []
            for index in range(2):
                fitted_to = fold[pairs.scored.image_ids] != index
                fitted = PlattScaling().fit(
                    pairs.scored.logits[fitted_to, None],
                    pairs.scored.targets[fitted_to, None])
                held_out = fold[selection.image_ids] == index
                probs = expit(fitted.scale *
                              selection.logits[held_out].astype(float) +
                              fitted.bias)
                targets = selection.targets[held_out]
                nll += list(-np.log(np.where(targets, probs, 1 - probs)))
            assert calibration.after[name].nll == pytest.approx(
                np.mean(nll), rel=1e-4)

    def test_one_scored_image(self, focal_pairs):
        pairs, _ = focal_pairs
        pairs = as_pairs(pairs.all.logits[:1], pairs.all.targets[:1], .0)
        with pytest.raises(InvalidValueError, match='at least 2 images'):
            calibrate_pairs(pairs, 'PlattScaling')


class TestBackground:
    """Objects want a < 1, the background, far from them, stays."""

    @pytest.fixture(scope='class')
    def flooded(self):
        rng = np.random.default_rng(0)
        easy, hard = rng.normal(-8, .5, 60000), rng.normal(0, 1.5, 2000)
        return make_pairs(
            np.concatenate([easy, 1.9 * hard]),
            expit(np.concatenate([easy, hard])))

    def test_scored_fit_that_floods_is_warned_of(self, flooded):
        with pytest.warns(UserWarning, match='all pairs worse.*--fit-to all'):
            bad = calibrate_pairs(flooded, 'PlattScaling')
        assert bad.calibrator.scale < .7
        assert bad.after['all'].nll > bad.before['all'].nll
        assert bad.after['scored'].nll < bad.before['scored'].nll

    def test_fit_to_all(self, flooded):
        good = calibrate_pairs(flooded, 'PlattScaling', fit_to='all')
        content = good.to_dict()
        assert content['fitted_to'] == 'all'
        assert content['calibrator'] == content['calibrator_by_selection'][
            'all']
        expected = PlattScaling().fit(flooded.all.logits[:, None],
                                      flooded.all.targets[:, None])
        assert content['calibrator']['scale'] == pytest.approx(expected.scale)
        assert good.after['all'].nll < good.before['all'].nll

    def test_unknown_selection(self, flooded):
        with pytest.raises(InvalidValueError, match='`fit_to`'):
            calibrate_pairs(flooded, 'PlattScaling', fit_to='positives')


class TestSoftTargets:

    def test_mean_target_is_recovered(self):
        """A target of 0 or of an IoU, whose mean is the probability."""
        rng = np.random.default_rng(0)
        true = np.minimum(draw_logits(), 1)
        iou = rng.uniform(.6, 1, len(true))
        targets = iou * (rng.random(len(true)) < expit(true) / .8)
        pairs = as_pairs(
            (true - .5) / 1.6, targets.astype(np.float32), scores_iou=True)
        calibrator = calibrate_pairs(pairs, 'PlattScaling').calibrator
        calibrated = expit(calibrator.scale * pairs.all.logits +
                           calibrator.bias)
        assert np.abs(calibrated - expit(true)).max() < .03


class TestSoftening:

    def test_pivots_at_the_base_rate_of_all_pairs(self, focal_pairs):
        pairs, _ = focal_pairs
        calibrator = calibrate_pairs(pairs, 'PlattScaling', 2.0).calibrator
        pivot = logit(pairs.all.targets.mean())
        assert calibrator.base_rate == pytest.approx(expit(pivot))
        at_pivot = (pivot - calibrator.bias) / calibrator.scale
        softened = calibrator(
            torch.tensor([[at_pivot, at_pivot + 1] * 2 + [0]]))
        assert softened[0, 0].item() == pytest.approx(pivot, abs=1e-4)
        assert softened[0, 1].item() == pytest.approx(
            pivot + calibrator.scale / 2, abs=1e-4)


class TestMeasure:

    def test_by_hand(self):
        """Scores .5 and .75 against 1 and .25."""
        one = measure_pairs(np.array([0, np.log(3)]), np.array([1, .25]))
        nll = -(np.log(.5) + .25 * np.log(.75) + .75 * np.log(.25)) / 2
        assert one.nll == pytest.approx(nll)
        assert one.brier == pytest.approx((.25 + .25) / 2)
        assert one.error.over == pytest.approx(.25)
        assert one.error.under == pytest.approx(.25)
        assert one.error.ece == pytest.approx(.5)
        assert one.error.mce == pytest.approx(.5)
        assert one.sum_ratio == pytest.approx(1)

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.tuples(st.floats(-30, 30, width=32), st.floats(0, 1, width=32)),
            min_size=1,
            max_size=40))
    def test_identities(self, rows):
        logits, targets = np.array(rows).T
        one = measure_pairs(logits, targets)
        scores = torch.from_numpy(logits).sigmoid().numpy()
        assert one.error.over - one.error.under == pytest.approx(
            scores.mean() - targets.mean(), abs=1e-12)
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.from_numpy(logits), torch.from_numpy(targets))
        assert one.nll == pytest.approx(expected.item(), abs=1e-12)
        if targets.sum() > 1e-6:
            assert one.sum_ratio == pytest.approx(scores.sum() / targets.sum())

    def test_saturated_scores_stay_finite(self):
        one = measure_pairs(np.array([-800., 800.]), np.array([1., 1.]))
        assert one.nll == pytest.approx(400)


class TestWrite:

    @pytest.mark.parametrize('kind', ['PlattScaling', 'TemperatureScaling'])
    def test_a_config_loads_the_file(self, focal_pairs, kind, tmp_path,
                                     monkeypatch):
        drawn = {}
        monkeypatch.setattr(teacher_calibration, 'save_figure',
                            lambda figure, path: open(path, 'w').close())
        monkeypatch.setattr(
            teacher_calibration, 'reliability_comparison',
            lambda tables, title, target_name: drawn.update(
                {title: (list(tables), target_name)}))
        # Of a softmax teacher that was written there before.
        (tmp_path / 'reliability_foreground.png').write_text('')
        calibration = calibrate_pairs(focal_pairs[0], kind)
        path = write_teacher_calibration(
            str(tmp_path), calibration, teacher=dict(config='x.py'))
        assert sorted(os.listdir(tmp_path)) == [
            'reliability_all.png', 'reliability_scored.png',
            'teacher_calibration.json', 'temperature_sweep.png'
        ]
        assert {target for _, target in drawn.values()} == {'Precision'}
        cfg = dict(type=kind, load_from=path, _scope_='tcal_det')
        loaded = MODELS.build(cfg)
        logits = torch.randn(4, 5)
        assert torch.equal(loaded(logits), calibration.calibrator(logits))
        loaded.check_cls_channels(5)
        with open(path) as file:
            content = json.load(file)
        assert content['teacher'] == dict(config='x.py')
        assert set(content['before']) == {'scored', 'all'}
        assert 'effective_temperature' not in content
        # What is printed can be recomputed from the bins.
        row = content['after']['scored']
        count, confidence, target = (
            np.array(row['bins'][key], float)
            for key in ('count', 'mean_confidence', 'mean_target'))
        gap = np.nansum(count * np.abs(confidence - target)) / count.sum()
        assert row['ece'] == pytest.approx(gap)

    def test_sweep(self, focal_pairs):
        pairs, _ = focal_pairs
        calibration = calibrate_pairs(pairs, 'TemperatureScaling')
        sweep = calibration.sweep
        temperatures = np.array(sweep['temperature'])
        index = int(np.abs(temperatures - 1).argmin())
        before = calibration.before['scored']
        assert sweep['nll'][index] == pytest.approx(before.nll, abs=1e-9)
        assert sweep['ece'][index] == pytest.approx(before.error.ece, abs=1e-9)
        lowest = temperatures[int(np.argmin(sweep['nll']))]
        fitted = calibration.calibrator.temperature
        assert abs(lowest - fitted) <= .05
        assert calibration.marked_temperatures == (fitted, None)


class TestChoice:

    def test_defaults(self):
        assert choose_calibrator(None, 'nll', 'softmax',
                                 'A') == 'TemperatureScaling'
        assert choose_calibrator(None, 'nll', 'sigmoid', 'A') == 'PlattScaling'

    @pytest.mark.parametrize('calibrator, activation', [
        ('PlattScaling', 'softmax'),
        ('FocalPosterior', 'softmax'),
        ('VectorScaling', 'sigmoid'),
    ])
    def test_wrong_activation(self, calibrator, activation):
        with pytest.raises(
                InvalidValueError,
                match=f'{activation} head of the teacher FCOS.*{calibrator}'):
            choose_calibrator(calibrator, 'nll', activation, 'FCOS')

    def test_objective(self):
        with pytest.raises(InvalidValueError, match='`objective`.*FCOS'):
            choose_calibrator('TemperatureScaling', 'ece', 'sigmoid', 'FCOS')
        assert choose_calibrator(None, 'ece', 'softmax',
                                 'A') == 'TemperatureScaling'
