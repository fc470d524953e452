"""Measure one teacher for a ranking, with intervals from resampled images."""
import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Tuple

import numpy as np
from scipy.special import expit, softmax

from tcal_det.checks import check_count
from tcal_det.evaluation.functional.calibration_error import (
    adaptive_calibration_error, calibration_error, top_label)
from tcal_det.models.calibrators import PlattScaling, TemperatureScaling
from tcal_det.models.calibrators.fitting import top_confidence
from tcal_det.teacher_options import NUM_RESAMPLES
from .image_bootstrap import (Estimate, draw_images, resampled_ace,
                              resampled_ece, resampled_mean, resampled_platt,
                              resampled_sum_ratio, resampled_temperature)
from .logits import TeacherSamples, TeacherScores
from .pairs import TeacherPairs
from .soft_label_figures import (binary_entropy, non_target_variance,
                                 softmax_entropy)

NUM_BINS = 15
# Heading of a table column, and its number of decimal places.
Column = Tuple[str, int]
SOFT_LABEL_COLUMNS = dict(
    entropy=('entropy', 4), non_target_variance=('non-target variance', 6))


@dataclass(frozen=True, eq=False)
class TeacherScore(metaclass=ABCMeta):
    """Figures of one teacher.

    Attributes:
        name (str): Name of the teacher.
        mean_ap (float): COCO mAP of the uncalibrated teacher, without an
            interval.
        ece (Estimate): ECE of the uncalibrated teacher over all samples, or
            over the scored pairs.
        over (Estimate): Over-confident part of the ECE.
        under (Estimate): Under-confident part of the ECE.
        entropy (Estimate): Mean entropy in nats, over the classes of a sample
            including background, or of the binary score of a scored pair.
        non_target_variance (Estimate): Mean variance of the probabilities of
            all classes except the assigned one, over samples or scored
            places.
        calibrated_ece (Estimate): ECE after the default calibrator of the
            activation, on the samples that it was fitted to.
        num_samples (int): Number of measured samples or scored pairs.
        resampled_ece (ndarray): ECE of each resample of the images, shape
            (B,).
    """
    name: str
    mean_ap: float
    ece: Estimate
    over: Estimate
    under: Estimate
    entropy: Estimate
    non_target_variance: Estimate
    calibrated_ece: Estimate
    num_samples: int
    resampled_ece: np.ndarray

    # Columns of the table by attribute.
    columns: ClassVar[Dict[str, Column]]
    # Description of the calibration for ``calibrated_ece``.
    calibrated_at: ClassVar[str]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers."""
        return dict(
            name=self.name,
            mAP=self.mean_ap,
            num_samples=self.num_samples,
            **{name: getattr(self, name).to_dict()
               for name in self.columns})

    @property
    @abstractmethod
    def parameters(self) -> Dict[str, float]:
        """Fitted parameters of the default calibrator."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Description of the calibrator for the figure."""

    @property
    @abstractmethod
    def config(self) -> str:
        """Text of the calibrator for the config of a student."""

    @abstractmethod
    def reasons(self) -> str:
        """Return a sentence about the calibrated teacher."""


@dataclass(frozen=True, eq=False)
class SoftmaxScore(TeacherScore):
    """Figures of one softmax teacher.

    Attributes:
        ace (Estimate): Adaptive calibration error over all classes.
        temperature (Estimate): Temperature of smallest NLL.
    """
    ace: Estimate
    temperature: Estimate

    columns = dict(
        ece=('ECE', 4),
        over=('over', 4),
        under=('under', 4),
        ace=('ACE', 4),
        **SOFT_LABEL_COLUMNS,
        temperature=('T', 3),
        calibrated_ece=('ECE at T', 4))
    calibrated_at = 'at its fitted temperature'

    @property
    def parameters(self) -> Dict[str, float]:
        return dict(temperature=self.temperature.value)

    @property
    def label(self) -> str:
        return f'T = {self.temperature.value:.3f}'

    @property
    def config(self) -> str:
        return (f"dict(type='TemperatureScaling', temperature="
                f'{self.temperature.value:.3f})')

    def reasons(self) -> str:
        return (f'At its fitted temperature {self.temperature.text(3)} the '
                f'ECE of `{self.name}` is {self.calibrated_ece.text()}. A '
                '`softening` above 1 makes it slightly under-confident, which '
                'the paper finds best.')


@dataclass(frozen=True, eq=False)
class SigmoidScore(TeacherScore):
    """Figures of one sigmoid teacher, from its scored pairs.

    Attributes:
        sum_ratio (Estimate): Sum of the scores divided by the sum of the
            targets.
        scale (Estimate): Scale of the Platt scaling with the smallest NLL.
        bias (Estimate): Bias of the Platt scaling with the smallest NLL.
    """
    sum_ratio: Estimate
    scale: Estimate
    bias: Estimate

    columns = dict(
        ece=('ECE', 4),
        over=('over', 4),
        under=('under', 4),
        **SOFT_LABEL_COLUMNS,
        sum_ratio=('sum ratio', 2),
        scale=('a', 3),
        bias=('b', 3),
        calibrated_ece=('ECE at a, b', 4))
    calibrated_at = 'with its fitted Platt scaling'

    @property
    def parameters(self) -> Dict[str, float]:
        return dict(scale=self.scale.value, bias=self.bias.value)

    @property
    def label(self) -> str:
        return f'a = {self.scale.value:.3f}, b = {self.bias.value:.3f}'

    @property
    def config(self) -> str:
        return (f"dict(type='PlattScaling', scale={self.scale.value:.3f}, "
                f'bias={self.bias.value:.3f})')

    def reasons(self) -> str:
        return (f'With its fitted Platt scaling, a = {self.scale.text(3)} '
                f'and b = {self.bias.text(3)}, the ECE of `{self.name}` is '
                f'{self.calibrated_ece.text()}. Each ECE is measured on the '
                "pairs of a prior and a class to which the teacher itself "
                'gives a score above a threshold.')


def score_teacher(name: str,
                  samples: TeacherScores,
                  mean_ap: float,
                  num_resamples: int = NUM_RESAMPLES,
                  seed: int = 0) -> TeacherScore:
    """Measure a teacher, with intervals from resampled images.

    Args:
        name (str): Name of the teacher.
        samples (TeacherSamples or TeacherPairs): Logits of the teacher.
        mean_ap (float): COCO mAP of the teacher.
        num_resamples (int): Number of resamples of the images, >= 2. Defaults
            to 1000.
        seed (int): Random seed of the resamples; must be the same for
            teachers that are compared. Defaults to 0.

    Returns:
        TeacherScore: Figures of the teacher.
    """
    check_count('num_resamples', num_resamples, lowest=2)
    draws = draw_images(samples.num_images, num_resamples, seed)
    if samples.activation == 'sigmoid':
        return _score_pairs(name, samples, mean_ap, draws)
    return _score_samples(name, samples, mean_ap, draws)


def _score_samples(name: str, samples: TeacherSamples, mean_ap: float,
                   draws: np.ndarray) -> SoftmaxScore:
    logits, labels = samples.logits, samples.labels
    image_ids = samples.image_ids
    temperature = TemperatureScaling().fit(logits, labels).temperature

    probs = softmax(logits.astype(np.float64), axis=1)
    confidence, correct = top_label(probs, labels)
    ace = Estimate.from_resamples(
        adaptive_calibration_error(probs, labels, NUM_BINS).ace,
        resampled_ace(probs, labels, image_ids, draws, NUM_BINS),
        lowest=0)
    return SoftmaxScore(
        name=name,
        mean_ap=mean_ap,
        ace=ace,
        entropy=_mean(softmax_entropy(probs), image_ids, draws),
        non_target_variance=_mean(
            non_target_variance(probs, labels), image_ids, draws),
        temperature=Estimate.from_resamples(
            temperature,
            resampled_temperature(logits, labels, temperature, image_ids,
                                  draws),
            lowest=0),
        **_calibration_errors(confidence, top_confidence(logits, temperature),
                              correct, image_ids, draws))


def _score_pairs(name: str, pairs: TeacherPairs, mean_ap: float,
                 draws: np.ndarray) -> SigmoidScore:
    scored = pairs.scored
    logits, targets = scored.logits, scored.targets.astype(np.float64)
    platt = PlattScaling().fit(logits[:, None], scored.targets[:, None])
    scores = expit(logits.astype(np.float64))
    places = pairs.scored_places
    scale, bias = resampled_platt(logits, targets, platt.scale, platt.bias,
                                  scored.image_ids, draws)
    return SigmoidScore(
        name=name,
        mean_ap=mean_ap,
        entropy=_mean(binary_entropy(logits), scored.image_ids, draws),
        non_target_variance=_mean(places.non_target_variance, places.image_ids,
                                  draws),
        sum_ratio=Estimate.from_resamples(
            scores.sum() / targets.sum() if targets.any() else math.nan,
            resampled_sum_ratio(scores, targets, scored.image_ids, draws),
            lowest=0),
        scale=Estimate.from_resamples(platt.scale, scale, lowest=0),
        bias=Estimate.from_resamples(platt.bias, bias),
        **_calibration_errors(
            scores,
            expit(platt.scale * logits.astype(np.float64) + platt.bias),
            targets, scored.image_ids, draws))


def _mean(values: np.ndarray, image_ids: np.ndarray,
          draws: np.ndarray) -> Estimate:
    """Estimate the mean of non-negative figures; NaN without figures."""
    return Estimate.from_resamples(
        float(values.mean()) if len(values) else math.nan,
        resampled_mean(values, image_ids, draws),
        lowest=0)


def _calibration_errors(confidence: np.ndarray, calibrated: np.ndarray,
                        targets: np.ndarray, image_ids: np.ndarray,
                        draws: np.ndarray) -> Dict[str, Any]:
    """Compute the figures that both activations have."""
    error = calibration_error(confidence, targets, NUM_BINS)
    resampled = resampled_ece(confidence, targets, image_ids, draws, NUM_BINS)
    figures = {
        key: Estimate.from_resamples(getattr(error, key), values, lowest=0)
        for key, values in zip(('ece', 'over', 'under'), resampled)
    }
    return dict(
        figures,
        calibrated_ece=Estimate.from_resamples(
            calibration_error(calibrated, targets, NUM_BINS).ece,
            resampled_ece(calibrated, targets, image_ids, draws, NUM_BINS)[0],
            lowest=0),
        num_samples=len(targets),
        resampled_ece=resampled[0])
