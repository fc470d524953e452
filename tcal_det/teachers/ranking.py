"""Rank teachers by calibration error, with confidence intervals."""
import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Tuple

import numpy as np
import torch.nn as nn
from scipy.special import expit, softmax

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.average_precision import average_precision
from tcal_det.evaluation.functional.calibration_error import (
    adaptive_calibration_error, calibration_error, top_label)
# yapf: enable
from tcal_det.models.calibrators import PlattScaling, TemperatureScaling
from tcal_det.models.calibrators.fitting import top_confidence
from tcal_det.models.head_adapters import adapter_for
from tcal_det.tables import markdown_table
from tcal_det.teacher_options import NUM_RESAMPLES
# yapf: disable
from .detections import collect_detections
from .image_bootstrap import (CONFIDENCE_LEVEL, Estimate, draw_images,
                              resampled_ace, resampled_ece, resampled_mean,
                              resampled_platt, resampled_sum_ratio,
                              resampled_temperature)
from .logits import TeacherSamples, TeacherScores
from .pairs import TeacherPairs
from .soft_label_figures import (binary_entropy, non_target_variance,
                                 softmax_entropy)

NUM_BINS = 15
PAPER = ('Kim et al. (arXiv 2508.20224) find that the accuracy of a student '
         'correlates more with the calibration error of its teacher '
         '(R^2 = .92 on CIFAR-100) than with the accuracy of the teacher '
         '(R^2 = .56)')

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
        return (f'At its fitted temperature {_text(self.temperature, 3)} the '
                f'ECE of `{self.name}` is {_text(self.calibrated_ece)}. A '
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
        return (f'With its fitted Platt scaling, a = {_text(self.scale, 3)} '
                f'and b = {_text(self.bias, 3)}, the ECE of `{self.name}` is '
                f'{_text(self.calibrated_ece)}. Each ECE is measured on the '
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


@dataclass(frozen=True, eq=False)
class TeacherRanking:
    """Teachers ranked by calibration error, and the recommended one.

    Attributes:
        scores (list[TeacherScore]): Teachers in the order of their ECE,
            smallest first.
        differences (list[Estimate]): ECE of each teacher minus the ECE of the
            first, on the same resamples; 0 for the first.
        recommended (TeacherScore): Teacher with the highest mAP of those
            whose difference may be 0.
    """
    scores: List[TeacherScore]
    differences: List[Estimate]
    recommended: TeacherScore

    @classmethod
    def from_scores(cls, scores: Iterable[TeacherScore]) -> 'TeacherRanking':
        """Rank teachers that were measured on the same resamples.

        Args:
            scores (Iterable[TeacherScore]): Figures of the teachers, in any
                order.

        Returns:
            TeacherRanking: Ranking with a recommendation.
        """
        scores = sorted(scores, key=lambda score: score.ece.value)
        first = scores[0]
        differences = [
            Estimate.from_resamples(score.ece.value - first.ece.value,
                                    score.resampled_ece - first.resampled_ece)
            for score in scores
        ]
        comparable = [
            score for score, difference in zip(scores, differences)
            # `not >`, because NaN stands for an unknown difference.
            if not difference.low > 0
        ]
        return cls(
            scores, differences,
            max(comparable, key=lambda score: np.nan_to_num(score.mean_ap)))

    def reasons(self) -> List[str]:
        """Return the reasons for the recommendation as sentences."""
        first, chosen = self.scores[0], self.recommended
        level = f'{CONFIDENCE_LEVEL:.0%}'
        sentences = [
            f'{PAPER}. Therefore teachers are ranked by ECE.',
            f'`{first.name}` has the smallest ECE, {_text(first.ece)}.',
        ]
        for score, difference in zip(self.scores[1:], self.differences[1:]):
            verdict = ('it is larger' if difference.low > 0 else
                       'the two are not distinguishable on these images')
            sentences.append(
                f'The ECE of `{score.name}` minus that of `{first.name}` is '
                f'{_text(difference)}: {verdict}.')
        if chosen is not first:
            sentences.append(
                f'Of those that are not distinguishable, `{chosen.name}` has '
                f'the highest mAP, {_per_cent(chosen.mean_ap)}.')
        sentences.append(chosen.reasons())
        sentences.append(
            f'In brackets: {level} intervals over resampled images. They do '
            'not cover other datasets, and the paper measured the '
            'correlation on classifiers, not on detectors.')
        return sentences

    def as_markdown(self) -> str:
        """Format the table, the recommendation and its reasons."""
        columns = self.recommended.columns
        rows = [['teacher', 'mAP', *(name for name, _ in columns.values())]]
        for score in self.scores:
            rows.append([
                f'**{score.name}**'
                if score is self.recommended else score.name,
                _per_cent(score.mean_ap),
                *(_text(getattr(score, attribute), digits)
                  for attribute, (_, digits) in columns.items())
            ])
        chosen = self.recommended
        lines = [
            markdown_table(rows), '', f'Recommended: `{chosen.name}` with '
            f'`calibrator={chosen.config}`', ''
        ]
        return '\n'.join(lines + [f'- {line}' for line in self.reasons()])

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and strings."""
        return dict(
            teachers=[
                dict(
                    score.to_dict(),
                    ece_difference_to_first=difference.to_dict())
                for score, difference in zip(self.scores, self.differences)
            ],
            recommendation=dict(
                teacher=self.recommended.name,
                **self.recommended.parameters,
                grounds=self.reasons()),
            confidence_level=CONFIDENCE_LEVEL,
            interval='percentiles over resampled images, moved so that their '
            'mean is the value; mAP is not bootstrapped')


def measure_mean_ap(detector: nn.Module, dataloader: Iterable[dict]) -> float:
    """Measure COCO's mAP of a detector on annotated images.

    Works for every dataset type.

    Args:
        detector (nn.Module): Detector in evaluation mode.
        dataloader (Iterable[dict]): Dataloader from
            ``build_calibration_dataloader``.

    Returns:
        float: The mAP, in [0, 1]; NaN without objects.
    """
    num_classes = adapter_for(detector, 'teacher').num_classes
    collected = collect_detections(detector, dataloader, num_classes)
    precision = average_precision(collected.ground_truth,
                                  collected.detections)
    return precision.overall['mAP']


def check_comparable(detectors: Dict[str, nn.Module]) -> None:
    """Check that the calibration errors of teachers can be compared.

    The error of a softmax head is measured on the top class of each sample,
    the error of a sigmoid head on pairs above a threshold; and RoIs are
    other samples than priors. A ranking across them would compare the
    samples, not the teachers. It would also be useless for a student: a
    student that learns from RoIs cannot learn from priors.

    Args:
        detectors (dict[str, nn.Module]): Teachers by name.

    Raises:
        InvalidValueError: If activations, kinds of samples or numbers of
            classes differ.
    """
    adapters = {
        name: adapter_for(detector, 'teacher')
        for name, detector in detectors.items()
    }
    kinds = {
        name: f'{adapter.activation} over {adapter.sample_name}'
        for name, adapter in adapters.items()
    }
    if len(set(kinds.values())) > 1:
        raise InvalidValueError(
            'the teachers must classify the same samples with the same '
            f'activation to be ranked by ECE, but they are {kinds}: compare '
            'the calibration of their detections with '
            '`tcal-eval`')
    counts = {name: adapter.num_classes for name, adapter in adapters.items()}
    if len(set(counts.values())) > 1:
        raise InvalidValueError(
            'the teachers must classify the same classes to be compared on '
            f'one split, but their numbers of classes are {counts}')


def _text(estimate: Estimate, digits: int = 4) -> str:
    if math.isnan(estimate.value):
        return 'n/a'
    interval = 'no interval'
    if not math.isnan(estimate.low):
        interval = f'{estimate.low:.{digits}f}, {estimate.high:.{digits}f}'
    return f'{estimate.value:.{digits}f} [{interval}]'


def _per_cent(mean_ap: float) -> str:
    return 'n/a' if math.isnan(mean_ap) else f'{100 * mean_ap:.1f}'
