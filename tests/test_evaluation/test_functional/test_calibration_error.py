import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (
    CalibrationError, adaptive_calibration_error,
    adaptive_top_label_calibration_error, calibration_error,
    classwise_calibration_error, negative_log_likelihood, top_label)
from tests.test_evaluation.test_functional.golden_files import (load_golden,
                                                                softmax)

TIGHT = dict(rel=0, abs=1e-12)
CASES = ['cls_small', 'cls_overconfident', 'cls_sharpened']


def load_case(name):
    golden = load_golden(name)
    inputs = golden['inputs']
    probs = (
        np.array(inputs['probs'])
        if 'probs' in inputs else softmax(inputs['logits']))
    return probs, np.array(inputs['labels']), golden


def samples(min_size=1, max_size=60):
    pair = st.tuples(
        st.one_of(
            st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.7, 1.0])),
        st.booleans())
    return st.lists(
        pair, min_size=min_size, max_size=max_size).map(lambda pairs: tuple(
            np.array(part, dtype=float) for part in zip(*pairs)))


@pytest.mark.parametrize('name', CASES)
def test_every_expected_value(name):
    probs, labels, golden = load_case(name)
    expected = dict(golden['expected'])
    expected.pop('at_nll_optimal_temperature', None)  # tested below
    expected.pop('nll_optimal_temperature', None)
    confidence, correct = top_label(probs, labels)

    def ours(key):
        if key == 'accuracy':
            return correct.mean()
        if key == 'nll':
            return negative_log_likelihood(probs, labels)
        if key.startswith('ace_r'):
            number = key[len('ace_r'):].split('_')[0]
            error = adaptive_calibration_error(probs, labels, int(number))
            if key.endswith('count_weighted'):
                # from the ranges that were returned
                gap = np.abs(error.mean_confidence - error.mean_target)
                return np.nansum(error.count * gap) / error.count.sum()
            return error.ace
        stem, number = key[:key.rindex('_')], int(key[key.rindex('_') + 2:])
        if stem == 'adaptive_ece_top1':
            return adaptive_top_label_calibration_error(
                confidence, correct, number)
        if stem == 'classwise_ece':
            return classwise_calibration_error(probs, labels, number).ece
        attribute = dict(
            ece='ece',
            ece_o='over',
            ece_u='under',
            mce='mce',
            average_ce='average')[stem]
        return getattr(
            calibration_error(confidence, correct, number), attribute)

    for key, value in expected.items():
        assert ours(key) == pytest.approx(value, **TIGHT), key


@pytest.mark.parametrize('name', ['cls_overconfident', 'cls_sharpened'])
def test_values_at_the_optimal_temperature(name):
    _, labels, golden = load_case(name)
    logits = np.array(golden['inputs']['logits'])
    temperature = golden['expected']['nll_optimal_temperature']
    expected = golden['expected']['at_nll_optimal_temperature']
    probs = softmax(logits / temperature)
    error = calibration_error(*top_label(probs, labels))
    ace = adaptive_calibration_error(probs, labels).ace
    nll = negative_log_likelihood(probs, labels)
    # The stored temperature is the search's, good to 1e-8: so are these.
    assert error.ece == pytest.approx(expected['ece_b15'], abs=1e-9)
    assert error.over == pytest.approx(expected['ece_o_b15'], abs=1e-9)
    assert error.under == pytest.approx(expected['ece_u_b15'], abs=1e-9)
    assert ace == pytest.approx(expected['ace_r15'], abs=1e-9)
    assert nll == pytest.approx(expected['nll'], abs=1e-12)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(
            softmax(logits / np.exp(log_t)), labels),
        bounds=(np.log(0.05), np.log(20)),
        method='bounded',
        options=dict(xatol=1e-9))
    assert np.exp(found.x) == pytest.approx(temperature, abs=1e-5)


@pytest.mark.parametrize('name', CASES)
def test_agrees_with_other_libraries(name):
    probs, labels, golden = load_case(name)
    confidence, correct = top_label(probs, labels)
    reference = golden['reference']
    for bins in (5, 10, 15):
        error = calibration_error(confidence, correct, bins, closed='left')
        netcal = reference['netcal']
        assert error.ece == pytest.approx(netcal[f'ece_b{bins}'], **TIGHT)
        assert error.mce == pytest.approx(netcal[f'mce_b{bins}'], **TIGHT)
        torchmetrics = reference['torchmetrics_float32']
        assert error.ece == pytest.approx(
            torchmetrics[f'ece_b{bins}'], abs=2e-6)
        assert error.mce == pytest.approx(
            torchmetrics[f'mce_b{bins}'], abs=2e-6)
        classwise = classwise_calibration_error(probs, labels, bins)
        um = reference['uncertainty_metrics']
        assert classwise.ece == pytest.approx(um[f'sce_b{bins}'], **TIGHT)
    if len(labels) == 2000:  # ranges of equal count in both conventions
        for ranges, tolerance in ((5, 1e-12), (10, 1e-12), (15, 1e-3)):
            ace = adaptive_calibration_error(probs, labels, ranges).ace
            assert ace == pytest.approx(um[f'ace_r{ranges}'], abs=tolerance)


@pytest.mark.parametrize('closed', ['left', 'right'])
@pytest.mark.parametrize('num_bins', [5, 10, 15, 25])
def test_values_on_bin_edges(closed, num_bins):
    golden = load_golden('cls_edges')
    error = calibration_error(golden['inputs']['conf'],
                              golden['inputs']['correct'], num_bins, closed)
    expected = golden['expected'][f'{closed}_b{num_bins}']
    assert error.ece == pytest.approx(expected['ece'], **TIGHT)
    assert error.over == pytest.approx(expected['ece_o'], **TIGHT)
    assert error.under == pytest.approx(expected['ece_u'], **TIGHT)
    assert error.mce == pytest.approx(expected['mce'], **TIGHT)
    assert error.average == pytest.approx(expected['avg'], **TIGHT)
    library = dict(left='netcal', right='fiveai_dece_loop')[closed]
    reference = golden['reference'][library][f'{closed}_b{num_bins}']
    assert error.ece == pytest.approx(reference['ece'], **TIGHT)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(samples(), st.integers(1, 20), st.sampled_from(['left', 'right']))
def test_identities(pairs, num_bins, closed):
    confidence, correct = pairs
    error = calibration_error(confidence, correct, num_bins, closed)
    bias = confidence.mean() - correct.mean()
    assert error.ece == pytest.approx(error.over + error.under, **TIGHT)
    assert error.over - error.under == pytest.approx(bias, **TIGHT)
    assert error.ece >= abs(bias) - 1e-12
    assert error.mce >= error.ece - 1e-12
    assert 0 <= error.over <= 1 and 0 <= error.under <= 1
    assert error.coverage == 1
    assert error.bins.count.sum() == error.num_samples == len(confidence)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(samples(), st.sampled_from([1, 2, 4, 8, 16]),
       st.sampled_from(['left', 'right']))
def test_splitting_bins_in_two_never_lowers_the_error(pairs, num_bins, closed):
    # Powers of two: their edges are exact, so the bins are nested.
    coarse = calibration_error(*pairs, num_bins, closed)
    fine = calibration_error(*pairs, 2 * num_bins, closed)
    assert fine.ece >= coarse.ece - 1e-12


@settings(derandomize=True, deadline=None, max_examples=80)
@given(samples(), st.integers(1, 20), st.randoms(use_true_random=False))
def test_order_of_samples_has_no_influence(pairs, number, random):
    confidence, correct = pairs
    order = list(range(len(confidence)))
    random.shuffle(order)
    error = calibration_error(confidence, correct, number)
    moved = calibration_error(confidence[order], correct[order], number)
    assert moved.ece == pytest.approx(error.ece, **TIGHT)
    probs = np.stack((confidence, 1 - confidence), axis=1)
    labels = correct.astype(int)
    ace = adaptive_calibration_error(probs, labels, number)
    moved = adaptive_calibration_error(probs[order], labels[order], number)
    assert moved.ace == pytest.approx(ace.ace, **TIGHT)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(samples(), st.integers(1, 20))
def test_every_figure_follows_from_the_table(pairs, num_bins):
    error = calibration_error(*pairs, num_bins)
    bins = error.bins
    used = bins.count >= 1
    gap = (bins.mean_confidence - bins.mean_target)[used]
    weight = bins.count[used] / bins.count.sum()
    assert error.ece == pytest.approx(np.sum(weight * abs(gap)), **TIGHT)
    assert error.over == pytest.approx(
        np.sum(weight[gap > 0] * gap[gap > 0]), **TIGHT)
    assert error.mce == pytest.approx(abs(gap).max(), **TIGHT)
    assert CalibrationError.from_bins(bins).ece == error.ece


def test_by_hand():
    # (.5, 1]: .9 right, .8 wrong: mean .85 - .5 = .35 over, weight 2/3;
    # [0, .5]: .3 right: .7 under, weight 1/3.
    error = calibration_error([0.9, 0.8, 0.3], [1, 0, 1], num_bins=2)
    assert error.over == pytest.approx(0.7 / 3)
    assert error.under == pytest.approx(0.7 / 3)
    assert error.mce == pytest.approx(0.7)
    assert error.average == pytest.approx((0.35 + 0.7) / 2)


@pytest.mark.parametrize('confidence, correct, ece', [(0.0, 0, 0.0),
                                                      (1.0, 1, 0.0),
                                                      (0.0, 1, 1.0),
                                                      (1.0, 0, 1.0),
                                                      (0.4, 1, 0.6)])
@pytest.mark.parametrize('closed', ['left', 'right'])
def test_one_sample(confidence, correct, ece, closed):
    error = calibration_error([confidence], [correct], closed=closed)
    assert error.ece == pytest.approx(ece)
    assert error.bins.count.sum() == 1


def test_two_classes_and_fewer_samples_than_bins():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    labels = [0, 1, 1]
    # each sample alone in its bin: gaps .1, .2 under and .6 over
    error = calibration_error(*top_label(probs, labels), num_bins=50)
    assert error.ece == pytest.approx(0.9 / 3)
    # both columns have the same gaps
    assert classwise_calibration_error(probs, labels, 50).ece == \
        pytest.approx(0.9 / 3)
    adaptive = adaptive_calibration_error(probs, labels, 50)
    assert adaptive.ace == pytest.approx(0.9 / 3)
    np.testing.assert_array_equal(adaptive.count.sum(axis=1), [3, 3])


def test_perfect_probabilities_have_no_error():
    probs, labels = np.eye(4)[[0, 2, 1, 3, 3]], [0, 2, 1, 3, 3]
    assert calibration_error(*top_label(probs, labels)).ece == 0
    assert classwise_calibration_error(probs, labels).ece == 0
    assert adaptive_calibration_error(probs, labels).ace == 0


def test_ties_share_their_target_in_ace():
    # One range per sample: gaps against the mean .5 of the tied targets.
    probs = np.array([[0.5, 0.5]] * 4)
    for labels in ([0, 0, 1, 1], [1, 0, 1, 0]):
        assert adaptive_calibration_error(probs, labels, 4).ace == 0


def test_first_of_equal_probabilities_is_the_prediction():
    confidence, correct = top_label([[0.5, 0.5], [0.5, 0.5]], [0, 1])
    assert confidence.tolist() == [0.5, 0.5]
    assert correct.tolist() == [1, 0]


def test_no_samples_give_nan_and_a_warning():
    with pytest.warns(UserWarning, match='no samples'):
        error = calibration_error([], [])
    assert np.isnan([
        error.ece, error.over, error.under, error.mce, error.average,
        error.coverage
    ]).all()
    assert error.num_samples == 0 and np.isnan(error.bins.mean_target).all()
    probs = np.zeros((0, 3))
    with pytest.warns(UserWarning, match='no samples'):
        assert np.isnan(classwise_calibration_error(probs, []).ece)
    with pytest.warns(UserWarning, match='no samples'):
        assert np.isnan(adaptive_calibration_error(probs, []).ace)
    with pytest.warns(UserWarning, match='no samples'):
        assert np.isnan(adaptive_top_label_calibration_error([], []))


def test_bad_input_is_named():
    with pytest.raises(InvalidValueError, match='`confidence` must be in'):
        calibration_error([1.5], [1])
    with pytest.raises(InvalidValueError, match='`correct` must be in'):
        calibration_error([0.5], [2])
    with pytest.raises(InvalidValueError, match='same length.*2 and 1'):
        calibration_error([0.5, 0.5], [1])
    with pytest.raises(InvalidValueError, match='probabilities, not logits'):
        classwise_calibration_error([[3.0, -1.0]], [0])
    with pytest.raises(InvalidValueError, match=r'`labels` must be in \[0'):
        adaptive_calibration_error([[0.5, 0.5]], [2])
    with pytest.raises(InvalidTypeError, match='whole numbers'):
        top_label([[0.5, 0.5]], [0.5])
    with pytest.raises(InvalidValueError, match='one per sample'):
        top_label([[0.5, 0.5]], [0, 1])
    with pytest.raises(InvalidValueError, match='2 dimension'):
        top_label([0.5, 0.5], [0, 1])


def test_inputs_are_not_changed():
    confidence = np.array([0.9, 0.1, 0.5])
    correct = np.array([1, 0, 0])
    kept = confidence.copy(), correct.copy()
    calibration_error(confidence, correct)
    adaptive_top_label_calibration_error(confidence, correct)
    np.testing.assert_array_equal(confidence, kept[0])
    np.testing.assert_array_equal(correct, kept[1])
