"""Calibrate a sigmoid teacher on held-out pairs and measure the effect.

Two selections of pairs are measured separately. 'scored', the pairs with a
score above a threshold, are those that detection uses. 'all' are mostly easy
background. Pairs are selected by score and never by label, because even a
perfect teacher looks miscalibrated on pairs that are selected by their label.

Shapes: N pairs of a place (prior, RoI or query) and a class.
"""
import warnings
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from mmdet.models.losses import FocalLoss
from scipy.special import expit

from tcal_det.checks import check_choice
from tcal_det.errors import InvalidTypeError, InvalidValueError, TcalDetWarning
# yapf: disable
from tcal_det.evaluation.functional.calibration_error import (
    CalibrationError, calibration_error)
# yapf: enable
from tcal_det.models.calibrators import (Calibrator, FocalPosterior,
                                         PlattScaling, TemperatureScaling)
from tcal_det.models.head_adapters import HeadAdapter
from tcal_det.teacher_options import SELECTIONS
from .image_folds import NUM_FOLDS, cross_fitting_to_dict, fold_of_image
from .pairs import PairSelection, TeacherPairs

# Largest allowed ratio of the temperatures of the two selections.
LARGEST_TEMPERATURE_RATIO = 1.5
# Largest mean difference between the probabilities of the two selections'
# calibrators without a warning. An ECE of this size would be called large.
LARGEST_PROBABILITY_GAP = 0.05
# The optimum of focal heads is near 0.5.
SWEEP_TEMPERATURES = np.linspace(0.2, 3.0, 57)
COLUMNS = ('nll', 'brier', 'ece', 'over', 'under', 'mce', 'sum_ratio')


@dataclass(frozen=True, eq=False)
class PairMeasurement:
    """Calibration of the scores of a sigmoid head.

    Attributes:
        nll (float): Mean negative log-likelihood of a pair, in nats.
        brier (float): Mean squared difference of score and target.
        error (CalibrationError): ECE, its signed parts, MCE and bins.
        sum_ratio (float): Sum of the scores divided by the sum of the
            targets; above 1 if the teacher predicts too many objects.
    """
    nll: float
    brier: float
    error: CalibrationError
    sum_ratio: float

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists."""
        return dict(
            num_samples=self.error.num_samples,
            nll=self.nll,
            brier=self.brier,
            ece=self.error.ece,
            over=self.error.over,
            under=self.error.under,
            mce=self.error.mce,
            sum_ratio=self.sum_ratio,
            bins=self.error.bins.to_dict())


def measure_pairs(logits: np.ndarray, targets: np.ndarray) -> PairMeasurement:
    """Measure the calibration of sigmoid logits.

    Args:
        logits (ndarray): Logits of the pairs, shape (N,).
        targets (ndarray): Targets of the scores, in [0, 1], shape (N,).

    Returns:
        PairMeasurement: Figures of all pairs.
    """
    logits, targets = logits.astype(np.float64), targets.astype(np.float64)
    scores = expit(logits)
    with np.errstate(divide='ignore', invalid='ignore'):
        sum_ratio = np.float64(scores.sum()) / targets.sum()
    return PairMeasurement(
        nll=float((np.logaddexp(0, logits) - targets * logits).mean()),
        brier=float(np.square(scores - targets).mean()),
        error=calibration_error(scores, targets),
        sum_ratio=float(sum_ratio))


@dataclass(frozen=True, eq=False)
class SigmoidCalibration:
    """Calibrator of a sigmoid teacher and its measurements.

    Attributes:
        fitted_to (str): Selection whose calibrator is written, 'scored' or
            'all'.
        calibrators (dict[str, Calibrator]): Calibrators by the selection that
            they were fitted to.
        probability_gap (float): Mean absolute difference of the two
            calibrators' probabilities over the scored pairs.
        fold_calibrators (list[Calibrator]): Calibrators fitted to all but one
            fold of the images each.
        before (dict[str, PairMeasurement]): Figures of the uncalibrated
            teacher, by selection.
        after (dict[str, PairMeasurement]): Figures of the calibrated logits,
            by selection; each pair is calibrated by the fold calibrator that
            was not fitted to its image.
        sweep (dict[str, list[float]]): Lists of equal length:
            ``temperature``, and ``ece``, ``over``, ``under`` and ``nll`` of
            the scored pairs at each temperature.
        pairs (TeacherPairs): Measured pairs.
    """
    fitted_to: str
    calibrators: Dict[str, Calibrator]
    probability_gap: float
    fold_calibrators: List[Calibrator]
    before: Dict[str, PairMeasurement]
    after: Dict[str, PairMeasurement]
    sweep: Dict[str, List[float]]
    pairs: TeacherPairs

    @property
    def calibrator(self) -> Calibrator:
        """Calibrator that is written to the JSON file."""
        return self.calibrators[self.fitted_to]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists.

        Configs load the entry ``calibrator``.
        """
        return dict(
            calibrator=self.calibrator.to_json_dict(),
            objective='nll',
            cls_channels=self.pairs.cls_channels,
            fitted_to=self.fitted_to,
            calibrator_by_selection={
                name: self.calibrators[name].to_json_dict()
                for name in SELECTIONS
            },
            probability_gap=self.probability_gap,
            cross_fitting=cross_fitting_to_dict(self.fold_calibrators),
            selections=self._rules(),
            before={name: self.before[name].to_dict()
                    for name in SELECTIONS},
            after={name: self.after[name].to_dict()
                   for name in SELECTIONS},
            sweep=self.sweep)

    def table(self) -> str:
        """Format the figures before and after, and both fits, as a table."""
        lines = [
            f'{"":19}{"samples":>9}' + ''.join(f'{key:>10}' for key in COLUMNS)
        ]
        for name in SELECTIONS:
            for phase in ('before', 'after'):
                row = getattr(self, phase)[name].to_dict()
                lines.append(f'{name:12}{phase:7}{row["num_samples"]:9d}' +
                             ''.join(f'{row[key]:10.4f}' for key in COLUMNS))
        rules = self._rules()
        lines += [f'{name}: {rules[name]}' for name in SELECTIONS]
        fitted = [
            f'to {name} {_parameters(self.calibrators[name])}'
            for name in SELECTIONS
        ]
        lines.append(f'fitted {", ".join(fitted)}; "after" and the written '
                     f'calibrator use the fit to {self.fitted_to}')
        return '\n'.join(lines)

    def diagrams(self) -> Dict[str, Tuple[dict, str]]:
        """Return the content of the reliability diagrams.

        Returns:
            dict[str, tuple[dict, str]]: Bin tables by heading, and the title
            of the figure, by selection.
        """
        after = f'After: {_parameters(self.calibrator)}'
        titles = dict(
            scored='Teacher, pairs with a score above '
            f'{self.pairs.score_threshold:g}',
            all='Teacher, all pairs')
        return {
            name: ({
                'Before': self.before[name].error.bins,
                after: self.after[name].error.bins
            }, titles[name])
            for name in SELECTIONS
        }

    @property
    def target_name(self) -> str:
        """Name of the target of a score, for the figures."""
        return 'Mean IoU' if self.pairs.scores_iou else 'Precision'

    sweep_title = 'Teacher, scored pairs'

    @property
    def marked_temperatures(self) -> Tuple[Optional[float], Optional[float]]:
        """Fitted and softened temperature to mark in the sweep.

        Each is None if the calibrator does not have it.
        """
        # Softening about the base rate is not a temperature.
        return getattr(self.calibrator, 'temperature', None), None

    def _rules(self) -> Dict[str, str]:
        places = self.pairs.sample_name
        return dict(
            scored=f'pairs of {places} and classes with a score above '
            f'{self.pairs.score_threshold:g} before calibration',
            all=f'uniform over all pairs of {places} and classes')


def calibrate_pairs(pairs: TeacherPairs,
                    calibrator: str,
                    softening: float = 1.0,
                    seed: int = 0,
                    focal: Optional[Dict[str, float]] = None,
                    fit_to: str = 'scored') -> SigmoidCalibration:
    """Fit a calibrator to each selection, and measure one of them.

    If the two fits disagree, one function of the score cannot calibrate both
    objects and background: temperatures that differ by more than a factor of
    1.5 raise an error, and other calibrators give a warning. A calibrator
    that makes the scores of all pairs worse also gives a warning.

    Args:
        pairs (TeacherPairs): Pairs of held-out images.
        calibrator (str): Name of the calibrator, 'PlattScaling',
            'TemperatureScaling' or 'FocalPosterior'.
        softening (float): Softening factor of the calibrator. Defaults
            to 1.0.
        seed (int): Random seed of the folds. Defaults to 0.
        focal (dict[str, float], optional): ``alpha`` and ``gamma`` of the
            teacher's focal loss, for 'FocalPosterior'. Defaults to None.
        fit_to (str): Selection whose calibrator is measured and written,
            'scored' or 'all'. Defaults to 'scored'.

    Returns:
        SigmoidCalibration: Calibrators and measurements.

    Raises:
        InvalidValueError: If the pairs cannot be fitted or split by image,
            or if the temperatures of the selections disagree.
    """

    def fit(selection: PairSelection, rows: Any = ...) -> Calibrator:
        fitted = _make(calibrator, softening, focal)
        fitted.fit(
            selection.logits[rows, None],
            selection.targets[rows, None],
            base_rate=pairs.base_rate)
        return fitted

    check_choice('fit_to', fit_to, SELECTIONS)
    selections = {name: getattr(pairs, name) for name in SELECTIONS}
    image_ids = selections[fit_to].image_ids
    fold = fold_of_image(image_ids, pairs.num_images, seed)
    fold_calibrators = [
        fit(selections[fit_to], fold[image_ids] != index)
        for index in range(NUM_FOLDS)
    ]
    calibrators = {
        name: fit(selection)
        for name, selection in selections.items()
    }
    gap = _check_agreement(calibrators['scored'], calibrators['all'], pairs)
    after = {}
    for name, selection in selections.items():
        calibrated = np.empty_like(selection.logits)
        for index, fold_calibrator in enumerate(fold_calibrators):
            held_out = fold[selection.image_ids] == index
            calibrated[held_out] = apply(fold_calibrator,
                                         selection.logits[held_out])
        after[name] = measure_pairs(calibrated, selection.targets)
    before = {
        name: measure_pairs(selection.logits, selection.targets)
        for name, selection in selections.items()
    }
    _warn_of_background(before['all'], after['all'], fit_to)
    for fitted in (*calibrators.values(), *fold_calibrators):
        # Fitted to a single column, but applied to each column of the head.
        fitted.cls_channels = pairs.cls_channels
    return SigmoidCalibration(
        fitted_to=fit_to,
        calibrators=calibrators,
        probability_gap=gap,
        fold_calibrators=fold_calibrators,
        before=before,
        after=after,
        sweep=sweep_pairs(pairs.scored),
        pairs=pairs)


def focal_parameters(adapter: HeadAdapter) -> Dict[str, float]:
    """Read ``alpha`` and ``gamma`` of a teacher's focal loss.

    Args:
        adapter (HeadAdapter): Adapter of the teacher.

    Returns:
        dict[str, float]: Arguments of :class:`FocalPosterior`.

    Raises:
        InvalidTypeError: If the teacher was trained with another loss.
    """
    loss_cls = adapter.loss_cls
    if isinstance(loss_cls, FocalLoss) and not adapter.scores_iou:
        return dict(alpha=loss_cls.alpha, gamma=loss_cls.gamma)
    raise InvalidTypeError(
        'FocalPosterior must be given a teacher that was trained with '
        f'FocalLoss on targets of 0 and 1, but the `loss_cls` of the teacher '
        f'{adapter.name} is a {type(loss_cls).__name__}, which has another '
        'optimum: use --calibrator PlattScaling')


def apply(calibrator: Calibrator, logits: np.ndarray) -> np.ndarray:
    """Apply a calibrator that was fitted to a single column.

    Args:
        calibrator (Calibrator): Calibrator of a sigmoid head.
        logits (ndarray): Uncalibrated logits, shape (N,).

    Returns:
        ndarray: Calibrated logits, shape (N,).
    """
    return calibrator(torch.from_numpy(logits[:, None])).numpy()[:, 0]


def sweep_pairs(selection: PairSelection) -> Dict[str, List[float]]:
    """Measure ECE and NLL of pairs at temperatures from 0.2 to 3.

    Args:
        selection (PairSelection): Pairs with uncalibrated logits.

    Returns:
        dict[str, list[float]]: Lists of equal length: ``temperature``,
        ``ece``, ``over``, ``under``, ``nll``.
    """
    sweep = {key: [] for key in ('ece', 'over', 'under', 'nll')}
    for temperature in SWEEP_TEMPERATURES:
        row = measure_pairs(selection.logits / temperature,
                            selection.targets).to_dict()
        for key, values in sweep.items():
            values.append(row[key])
    return dict(sweep, temperature=SWEEP_TEMPERATURES.tolist())


def _make(calibrator: str, softening: float,
          focal: Optional[Dict[str, float]]) -> Calibrator:
    if calibrator == 'TemperatureScaling':
        return TemperatureScaling(activation='sigmoid', softening=softening)
    if calibrator == 'FocalPosterior':
        return FocalPosterior(softening=softening, **focal)
    return PlattScaling(softening=softening)


def _check_agreement(fitted: Calibrator, fitted_to_all: Calibrator,
                     pairs: TeacherPairs) -> float:
    """Return the mean difference of probabilities over the scored pairs.

    Temperatures that differ too much raise an error; for other calibrators a
    large difference gives a warning.
    """
    logits = pairs.scored.logits
    gap = float(
        np.abs(
            expit(apply(fitted, logits)) -
            expit(apply(fitted_to_all, logits))).mean())
    if isinstance(fitted, TemperatureScaling):
        scored, of_all = fitted.temperature, fitted_to_all.temperature
        ratio = max(scored, of_all) / min(scored, of_all)
        if ratio > LARGEST_TEMPERATURE_RATIO:
            raise InvalidValueError(
                f'`temperature` must be one that scored pairs (score > '
                f'{pairs.score_threshold:g}) and all pairs share up to a '
                f'factor {LARGEST_TEMPERATURE_RATIO:g}, but the fit to the '
                f'scored ones is T = {scored:.4g} and the fit to all is T = '
                f'{of_all:.4g}: objects and background need different '
                'corrections, which one temperature cannot give; use '
                '--calibrator PlattScaling')
    elif gap > LARGEST_PROBABILITY_GAP:
        warnings.warn(
            f'{_parameters(fitted)}, fitted to scored pairs, and '
            f'{_parameters(fitted_to_all)}, fitted to all pairs, give the '
            f'pairs with a score > {pairs.score_threshold:g} probabilities '
            f'that differ by {gap:.3f} on average: below that score the '
            'calibrator is not reliable; see "all" in the table',
            TcalDetWarning,
            stacklevel=3)
    return gap


def _warn_of_background(before: PairMeasurement, after: PairMeasurement,
                        fit_to: str) -> None:
    """Warn if the calibrator makes the scores of all pairs worse.

    A distillation loss counts all pairs, and nearly all are background.
    """
    if after.nll <= before.nll:
        return
    remedy = ('--fit-to all' if fit_to == 'scored' else
              'more images, or leave the calibrator out')
    warnings.warn(
        'the calibrator makes the scores of all pairs worse, on images that '
        f'it was not fitted to: NLL {before.nll:.4g} before, {after.nll:.4g} '
        f'after; sum of scores over sum of targets {before.sum_ratio:.3g} '
        f'before, {after.sum_ratio:.3g} after. Distillation learns from all '
        f'pairs: use {remedy}',
        TcalDetWarning,
        stacklevel=3)


def _parameters(calibrator: Calibrator) -> str:
    if isinstance(calibrator, TemperatureScaling):
        text = f'T = {calibrator.temperature:.4g}'
    elif isinstance(calibrator, PlattScaling):
        text = f'a = {calibrator.scale:.4g}, b = {calibrator.bias:.4g}'
    else:
        text = (f'FocalPosterior, alpha = {calibrator.alpha:g}, gamma = '
                f'{calibrator.gamma:g}')
    if calibrator.softening != 1:
        text += f', softening = {calibrator.softening:g}'
    return text
