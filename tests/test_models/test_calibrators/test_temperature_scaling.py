import copy
import json
import os.path as osp
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional.calibration_error import (
    calibration_error, top_label)
from tcal_det.models.calibrators import (PlattScaling, TemperatureScaling,
                                         VectorScaling)
from tcal_det.models.calibrators.fitting import softmax_confidence_and_nll
from tcal_det.registry import MODELS

GOLDEN = osp.join(osp.dirname(__file__), '../../data/golden')


def golden(name):
    with open(osp.join(GOLDEN, f'{name}.json')) as file:
        case = json.load(file)
    return (np.array(case['inputs']['logits']),
            np.array(case['inputs']['labels']), case['expected'])


def nll(logits, labels):
    log_probs = log_softmax(logits, axis=1)
    return -log_probs[np.arange(len(labels)), labels].mean()


def ece(logits, labels):
    return calibration_error(*top_label(softmax(logits, axis=1), labels))


def noisy_samples(num_samples=400, cls_channels=5, seed=0, sharpness=2.0):
    """Labels drawn from the softmax of logits that are then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_samples, cls_channels)) * 1.5
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * sharpness, labels


class TestFixedTemperature:

    def test_divides_the_logits_by_a_python_float(self):
        logits = torch.randn(7, 4)
        calibrator = TemperatureScaling(temperature=1.5)
        assert torch.equal(calibrator(logits), logits / 1.5)
        assert not list(calibrator.parameters())
        assert not calibrator.state_dict()
        assert str(calibrator) == 'TemperatureScaling(temperature=1.5)'

    def test_default_is_the_papers(self):
        assert TemperatureScaling().effective_temperature == 1.5

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_is_widened(self, dtype):
        logits = torch.randn(3, 4).to(dtype)
        assert TemperatureScaling(2.0)(logits).dtype == torch.float32
        assert TemperatureScaling(2.0)(logits.double()).dtype == torch.float64

    def test_softening_multiplies_the_temperature(self):
        logits = torch.randn(7, 4)
        calibrator = TemperatureScaling(temperature=2.0, softening=1.25)
        assert torch.equal(calibrator(logits), logits / 2.5)
        assert 'effective_temperature=2.5' in str(calibrator)
        assert calibrator.to_json_dict()['temperature'] == 2.0
        assert calibrator.to_json_dict()['softening'] == 1.25

    @pytest.mark.parametrize('name', ['temperature', 'softening'])
    @pytest.mark.parametrize('value', [0.0, -1, float('nan'), float('inf')])
    def test_must_lie_in_zero_to_infinity(self, name, value):
        with pytest.raises(InvalidValueError, match=rf'`{name}`.*\(0, inf\)'):
            TemperatureScaling(**{name: value})

    @pytest.mark.parametrize('value', ['2', True, np.bool_(True), [2.0]])
    def test_must_be_a_number(self, value):
        with pytest.raises(InvalidTypeError, match='`temperature`.*number'):
            TemperatureScaling(temperature=value)

    @pytest.mark.parametrize(
        'value',
        [np.float32(1.5), np.float64(1.5),
         np.array(1.5)])
    def test_numpys_numbers_are_numbers(self, value):
        calibrator = TemperatureScaling(value, softening=np.int64(2))
        form = calibrator.to_json_dict()
        assert form == TemperatureScaling(1.5, softening=2.0).to_json_dict()
        assert type(form['temperature']) is type(form['softening']) is float

    @pytest.mark.parametrize('temperature, softening', [(1e-60, 1.0),
                                                        (1e60, 1.0),
                                                        (1e30, 1e30),
                                                        (1e-200, 1e-200)])
    def test_must_be_a_number_of_float32(self, temperature, softening):
        """To float32 logits it would be 0 or infinite."""
        with pytest.raises(
                InvalidValueError, match='temperature . softening` must be'):
            TemperatureScaling(temperature, softening)

    def test_unknown_activation(self):
        with pytest.raises(InvalidValueError, match='softmax.*sigmoid.*relu'):
            TemperatureScaling(activation='relu')

    def test_another_number_of_classes(self):
        calibrator = TemperatureScaling(temperature=2.0, cls_channels=4)
        calibrator.check_cls_channels(4)
        calibrator(torch.zeros(0, 4))
        for call in (lambda: calibrator.check_cls_channels(81),
                     lambda: calibrator(torch.zeros(2, 81))):
            with pytest.raises(
                    InvalidValueError,
                    match='4 columns.*background included.*81.*calibrate_te'):
                call()

    def test_the_registry_builds_its_json_form(self):
        calibrator = TemperatureScaling(2.0, softening=1.1, cls_channels=3)
        config = json.loads(json.dumps(calibrator.to_json_dict()))
        again = MODELS.build(dict(config, _scope_='tcal_det'))
        assert str(again) == str(calibrator)
        assert again.to_json_dict() == calibrator.to_json_dict()


class TestFittedTemperature:

    @pytest.mark.parametrize('name', ['cls_sharpened', 'cls_overconfident'])
    def test_golden(self, name):
        logits, labels, expected = golden(name)
        calibrator = TemperatureScaling().fit(logits, labels)
        optimum = expected['nll_optimal_temperature']
        assert calibrator.temperature == pytest.approx(optimum, abs=1e-6)
        assert calibrator.cls_channels == 11
        calibrated = calibrator(torch.from_numpy(logits)).numpy()
        expected = expected['at_nll_optimal_temperature']
        assert nll(calibrated, labels) == pytest.approx(
            expected['nll'], abs=1e-12)
        error = ece(calibrated, labels)
        assert error.ece == pytest.approx(expected['ece_b15'], abs=1e-7)
        assert error.over == pytest.approx(expected['ece_o_b15'], abs=1e-7)
        assert error.under == pytest.approx(expected['ece_u_b15'], abs=1e-7)
        assert error.ece < ece(logits, labels).ece

    def test_float32_tensors_as_a_head_gives_them(self):
        logits, labels, expected = golden('cls_sharpened')
        calibrator = TemperatureScaling().fit(
            torch.from_numpy(logits).float(), torch.from_numpy(labels))
        assert calibrator.temperature == pytest.approx(
            expected['nll_optimal_temperature'], abs=1e-6)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_logits(self, dtype):
        logits, labels = noisy_samples()
        calibrator = TemperatureScaling().fit(
            torch.from_numpy(logits).to(dtype), torch.from_numpy(labels))
        rounded = torch.from_numpy(logits).to(dtype).float()
        assert calibrator.temperature == TemperatureScaling().fit(
            rounded, labels).temperature

    @settings(max_examples=30, deadline=None)
    @given(
        scale=st.floats(1e-6, 1e6),
        shift=st.floats(-100, 100),
        seed=st.integers(0, 1000))
    def test_scale_equivariant_and_shift_invariant(self, scale, shift, seed):
        logits, labels = noisy_samples(num_samples=200, seed=seed)
        fitted = TemperatureScaling().fit(logits, labels).temperature
        scaled = TemperatureScaling().fit(logits * scale, labels).temperature
        assert scaled == pytest.approx(fitted * scale, rel=1e-10)
        shifted = TemperatureScaling().fit(logits + shift, labels).temperature
        assert shifted == pytest.approx(fitted, rel=1e-7)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 1000), step=st.sampled_from([0.99, 1.01]))
    def test_no_other_temperature_has_a_smaller_nll(self, seed, step):
        logits, labels = noisy_samples(seed=seed)
        best = TemperatureScaling().fit(logits, labels).temperature
        assert nll(logits / best, labels) < nll(logits / (best * step), labels)

    @settings(max_examples=20, deadline=None)
    @given(
        temperature=st.floats(0.05, 20, exclude_min=True),
        seed=st.integers(0, 1000))
    def test_accuracy_and_ranking_stay(self, temperature, seed):
        logits = torch.from_numpy(noisy_samples(seed=seed)[0])
        calibrated = TemperatureScaling(temperature)(logits)
        assert torch.equal(logits.argsort(dim=1), calibrated.argsort(dim=1))

    def test_slices_do_not_change_the_result(self, monkeypatch):
        logits, labels, _ = golden('cls_sharpened')
        whole = TemperatureScaling().fit(logits, labels).temperature
        monkeypatch.setattr(
            'tcal_det.models.calibrators.fitting.NUMBERS_PER_SLICE', 77)
        sliced = TemperatureScaling().fit(logits, labels).temperature
        assert sliced == pytest.approx(whole, rel=1e-11)
        confidence, mean = softmax_confidence_and_nll(logits, labels, 2.0)
        assert mean == pytest.approx(nll(logits / 2, labels), rel=1e-12)
        assert confidence == pytest.approx(
            softmax(logits / 2, axis=1).max(axis=1), rel=1e-12)

    def test_fit_keeps_softening_and_leaves_the_samples_alone(self):
        logits, labels = noisy_samples()
        copies = logits.copy(), labels.copy()
        plain = TemperatureScaling().fit(logits, labels)
        soft = TemperatureScaling(softening=1.2).fit(logits, labels)
        assert soft.temperature == plain.temperature
        assert soft.effective_temperature == 1.2 * plain.temperature
        assert (logits == copies[0]).all() and (labels == copies[1]).all()

    @pytest.mark.parametrize('name', ['cls_sharpened', 'cls_overconfident'])
    def test_ece_objective_beats_a_dense_sweep(self, name):
        logits, labels, _ = golden(name)
        calibrator = TemperatureScaling().fit(logits, labels, objective='ece')
        best = ece(logits / calibrator.temperature, labels).ece
        assert best <= ece(
            logits / TemperatureScaling().fit(logits, labels).temperature,
            labels).ece
        # Steps of the ECE narrower than the grid may be missed.
        assert best <= 1.05 * min(
            ece(logits / temperature, labels).ece
            for temperature in np.linspace(0.7, 5, 400))

    def test_ece_objective_is_scale_equivariant(self):
        logits, labels = noisy_samples()
        fitted = TemperatureScaling().fit(logits, labels, objective='ece')
        scaled = TemperatureScaling().fit(logits * 3, labels, objective='ece')
        assert scaled.temperature == pytest.approx(
            3 * fitted.temperature, rel=1e-6)

    def test_unknown_objective(self):
        with pytest.raises(InvalidValueError, match="'nll' or 'ece'.*'mse'"):
            TemperatureScaling().fit(*noisy_samples(), objective='mse')


class TestSigmoid:

    @staticmethod
    def samples(seed=0):
        rng = np.random.default_rng(seed)
        logits = rng.normal(-2, 2, size=(500, 3))
        positive = rng.uniform(size=logits.shape) < expit(logits / 2)
        labels = np.where(positive.any(axis=1), positive.argmax(axis=1), 3)
        return logits, labels

    def test_background_is_a_row_of_zeros(self):
        logits, labels = self.samples()
        calibrator = TemperatureScaling(activation='sigmoid').fit(
            logits, labels)

        def binary_nll(temperature):
            z = logits / temperature
            is_positive = labels[:, None] == np.arange(3)
            return np.where(is_positive, np.logaddexp(0, -z),
                            np.logaddexp(0, z)).mean()

        best = calibrator.temperature
        for step in (0.99, 1.01):
            assert binary_nll(best) < binary_nll(best * step)
        assert calibrator.cls_channels == 3
        assert calibrator.to_json_dict()['activation'] == 'sigmoid'

    def test_has_no_temperature_of_its_own(self):
        calibrator = TemperatureScaling(activation='sigmoid')
        assert calibrator.to_json_dict()['temperature'] is None
        assert calibrator.effective_temperature is None
        assert str(calibrator) == (
            "TemperatureScaling(not fitted, activation='sigmoid')")
        for call in (lambda: calibrator.check_cls_channels(3),
                     lambda: calibrator(torch.zeros(2, 3))):
            with pytest.raises(
                    InvalidValueError,
                    match='`temperature`.*calibrate_teacher.py, or give '
                    '`temperature`.*under-confident.*1.5'):
                call()
        logits, labels = self.samples()
        assert calibrator.fit(logits, labels) is calibrator
        calibrator.check_cls_channels(3)

    def test_divides_the_logits(self):
        logits = torch.randn(7, 4)
        calibrator = TemperatureScaling(0.5, activation='sigmoid')
        assert torch.equal(calibrator(logits), 2 * logits)

    @pytest.mark.parametrize('options', [
        dict(temperature=1e60, softening=1e-30),
        dict(temperature=1e-30, softening=1e30, base_rate=2.0),
        dict(temperature=1e30, softening=1e30),
    ])
    def test_parameters_out_of_range(self, options):
        with pytest.raises(InvalidValueError, match='must be in'):
            TemperatureScaling(activation='sigmoid', **options)

    def test_a_temperature_beyond_float32(self):
        """Also where softening would bring the product back."""
        logits, labels = self.samples()
        logits = (-logits * 1e37).astype(np.float32)
        calibrator = TemperatureScaling(activation='sigmoid', softening=1e-3)
        with pytest.warns(
                UserWarning, match='do not favour'), pytest.raises(
                    InvalidValueError, match='fitted temperature is'):
            calibrator.fit(logits, labels)
        assert not calibrator.is_fitted

    def test_scale_equivariant(self):
        logits, labels = self.samples()
        fitted, scaled = (
            TemperatureScaling(activation='sigmoid').fit(logits * a, labels)
            for a in (1, 0.01))
        assert scaled.temperature == pytest.approx(
            0.01 * fitted.temperature, rel=1e-10)

    def test_ece_objective(self):
        logits, labels = self.samples()
        correct = logits.argmax(axis=1) == labels

        def top_ece(temperature):
            return calibration_error(
                expit(logits / temperature).max(axis=1), correct).ece

        nll_best, ece_best = (
            TemperatureScaling(activation='sigmoid').fit(
                logits, labels, objective=objective).temperature
            for objective in ('nll', 'ece'))
        assert top_ece(ece_best) <= top_ece(nll_best)

    def test_background_label_is_out_of_range_for_softmax(self):
        logits, labels = self.samples()
        with pytest.raises(InvalidValueError, match=r'\[0, 2\].*got 3'):
            TemperatureScaling().fit(logits, labels)


class TestDegenerateSamples:
    """A bounded answer with a warning, in proportion to the logits."""

    @pytest.mark.parametrize('scale', [1.0, 1e-3, 1e4])
    def test_separable(self, scale):
        logits = scale * np.eye(3)
        with pytest.warns(UserWarning, match='separable'):
            calibrator = TemperatureScaling().fit(logits, np.arange(3))
        assert 1e-3 * scale < calibrator.temperature < 0.1 * scale

    @pytest.mark.parametrize('scale', [1.0, 1e-3, 1e4])
    def test_logits_that_mislead(self, scale):
        logits = -scale * np.eye(3)
        with pytest.warns(UserWarning, match='do not favour the true'):
            calibrator = TemperatureScaling().fit(logits, np.arange(3))
        assert 10 * scale < calibrator.temperature < 1000 * scale

    def test_one_class(self):
        logits, labels = noisy_samples()
        with pytest.warns(UserWarning, match='all 400 labels are 2'):
            calibrator = TemperatureScaling().fit(logits,
                                                  np.full_like(labels, 2))
        assert np.isfinite(calibrator.temperature)

    def test_equal_logits(self):
        with pytest.warns(UserWarning, match='the temperature has no effect'):
            calibrator = TemperatureScaling().fit(
                np.full((3, 4), 7.0), np.arange(3))
        assert calibrator.temperature == 1

    def test_one_sample(self):
        with pytest.warns(UserWarning):
            calibrator = TemperatureScaling().fit([[0.0, 1.0]], [1])
        assert calibrator.temperature > 0

    def test_huge_logits_do_not_overflow(self):
        logits, labels = noisy_samples()
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            fitted = TemperatureScaling().fit(logits * 1e200, labels)
        assert fitted.temperature == pytest.approx(
            1e200 * TemperatureScaling().fit(logits, labels).temperature)

    @pytest.mark.parametrize('edge, factor', [('lower', 1 / 4), ('upper', 4)])
    def test_ece_search_ends_on_its_edge(self, monkeypatch, edge, factor):
        """The optimum lies outside, on the side where the search ends."""
        logits, labels = noisy_samples(num_samples=4000)
        best = TemperatureScaling().fit(logits, labels).temperature
        start = best / 20 if edge == 'upper' else best * 20
        monkeypatch.setattr(
            'tcal_det.models.calibrators.fitting.fit_temperature',
            lambda *args: start)
        with pytest.warns(UserWarning, match='bound of the search'):
            calibrator = TemperatureScaling().fit(
                logits, labels, objective='ece')
        assert calibrator.temperature == pytest.approx(
            start * factor, rel=1e-12)

    @pytest.mark.parametrize('objective', ['nll', 'ece'])
    @pytest.mark.parametrize('calibrator', [
        TemperatureScaling(activation='softmax'),
        TemperatureScaling(activation='sigmoid'),
        PlattScaling(),
        VectorScaling(),
    ])
    @pytest.mark.parametrize('dtype, magnitude', [
        (np.float64, 1e308),
        (np.float64, 1e250),
        (np.float64, 1e-300),
        (np.float32, 3e38),
        (np.float32, 1e-38),
        (np.float32, 1e-44),
    ])
    @pytest.mark.parametrize('kind', ['right', 'wrong', 'random', 'mixed'])
    @pytest.mark.filterwarnings('ignore::UserWarning')
    def test_extreme_logits_are_an_error_or_a_finite_fit(
            self, dtype, magnitude, kind, calibrator, objective):
        labels = np.arange(12) % 3
        logits = np.where(labels[:, None] == np.arange(3), 1., -1.)
        if kind == 'wrong':
            logits = -logits
        elif kind == 'random':
            logits = np.random.default_rng(0).uniform(-1, 1, (12, 3))
        elif kind == 'mixed':
            logits[1::2] /= 1e6
        logits = (logits * magnitude).astype(dtype)
        calibrator = copy.deepcopy(calibrator)
        options = {}
        if isinstance(calibrator, TemperatureScaling):
            options = dict(objective=objective)
        before = calibrator.to_json_dict()
        with np.errstate(all='ignore'):
            try:
                calibrator.fit(logits, labels, **options)
            except InvalidValueError as error:
                assert '`logits` must be' in str(error) or ('float32'
                                                            in str(error))
                assert calibrator.to_json_dict() == before
                return
            calibrated = calibrator(torch.from_numpy(logits))
        assert calibrated.isfinite().all()
        # The JSON form says the same, or that float32 has no such number.
        try:
            again = type(calibrator)(**{
                key: value
                for key, value in calibrator.to_json_dict().items()
                if key != 'type'
            })
        except InvalidValueError as error:
            assert 'float32' in str(error)
        else:
            assert again.to_json_dict() == calibrator.to_json_dict()

    def test_infinite_temperature_is_an_error(self):
        logits = -3e38 * np.eye(3, dtype=np.float32)
        with pytest.warns(
                UserWarning, match='do not favour'), pytest.raises(
                    InvalidValueError,
                    match='`logits`.*float32.*temperature is'):
            TemperatureScaling().fit(logits, np.arange(3))

    def test_beyond_the_largest_logit(self):
        with pytest.raises(InvalidValueError, match='`logits`.*1e.308'):
            TemperatureScaling().fit([[1e308, 0.0], [0.0, 1.0]], [0, 1])


class TestBadSamples:

    @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
    def test_not_finite(self, value):
        logits, labels = noisy_samples()
        logits[3, 1] = value
        with pytest.raises(
                InvalidValueError,
                match=r'`logits` must be finite.*1 of 400.*row 3.*check'):
            TemperatureScaling().fit(logits, labels)

    @pytest.mark.parametrize('label', [-1, 5])
    def test_label_out_of_range(self, label):
        logits, labels = noisy_samples()
        labels[7] = label
        with pytest.raises(
                InvalidValueError,
                match=rf'`labels` must be in \[0, 4\].*got {label} at \[7\]'):
            TemperatureScaling().fit(logits, labels)

    def test_no_sample(self):
        with pytest.raises(InvalidValueError, match='at least one.*give im'):
            TemperatureScaling().fit(torch.zeros(0, 5), torch.zeros(0))

    def test_lengths_differ(self):
        with pytest.raises(InvalidValueError, match=r'\(4,\).*\(3,\)'):
            TemperatureScaling().fit(np.zeros((4, 2)), [0, 1, 1])

    @pytest.mark.parametrize('shape', [(4, ), (4, 1), (4, 2, 2)])
    def test_wrong_shape(self, shape):
        with pytest.raises(InvalidValueError, match=r'shape \(N, C\)'):
            TemperatureScaling().fit(np.zeros(shape), [0, 1, 1, 0])

    def test_labels_that_are_not_whole_numbers(self):
        with pytest.raises(InvalidTypeError, match='whole numbers.*float64'):
            TemperatureScaling().fit(np.zeros((2, 2)), [0.5, 1.0])

    @pytest.mark.parametrize(
        'logits', [[['a', 'b']], [[True, False]], [[1j, 2j]], [[None, 1]]])
    def test_logits_that_are_not_numbers(self, logits):
        with pytest.raises(InvalidTypeError, match='`logits`.*numbers'):
            TemperatureScaling().fit(logits, [0])

    def test_rows_of_unequal_length(self):
        with pytest.raises(InvalidValueError, match='`logits`.*length'):
            TemperatureScaling().fit([[1.0, 2.0], [1.0]], [0, 1])

    def test_a_failed_fit_changes_nothing(self):
        calibrator = TemperatureScaling(3.0)
        with pytest.raises(InvalidValueError):
            calibrator.fit(np.zeros((0, 5)), [])
        assert calibrator.to_json_dict() == TemperatureScaling(
            3.0).to_json_dict()
