"""Which of several teachers to distil from, and how sure that is."""
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
PAPER = ('Kim et al. (arXiv 2508.20224) find that the calibration error of '
         'the teacher goes with the accuracy of its student, R^2 = .92 on '
         'CIFAR-100, more than the accuracy of the teacher does, .56')

# What a column of a table is called, and its decimal places.
Column = Tuple[str, int]
SOFT_LABEL_COLUMNS = dict(
    entropy=('entropy', 4), non_target_variance=('non-target variance', 6))


@dataclass(frozen=True, eq=False)
class TeacherScore(metaclass=ABCMeta):
    """What is known of one teacher.

    Attributes:
        name (str): As the user calls it.
        mean_ap (float): COCO's mAP of the teacher as it is; no interval.
        ece (Estimate): Of all samples, or scored pairs; not calibrated.
        over (Estimate): Its over-confident part.
        under (Estimate): Its under-confident part.
        entropy (Estimate): Mean, in nats, of a sample's classes, background
            included, or of a scored pair's yes or no.
        non_target_variance (Estimate): Mean variance of the probabilities of
            all classes but the assigned one, over samples or scored places.
        calibrated_ece (Estimate): ECE after the default calibrator of the
            activation, on the samples that it was fitted to.
        num_samples (int): Samples, or scored pairs, measured.
        resampled_ece (ndarray): ``ece`` of each resample of the images,
            shape (B,).
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

    # Of the table, by attribute.
    columns: ClassVar[Dict[str, Column]]
    # What was done to the teacher for ``calibrated_ece``.
    calibrated_at: ClassVar[str]

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers."""
        return dict(
            name=self.name,
            mAP=self.mean_ap,
            num_samples=self.num_samples,
            **{name: getattr(self, name).to_dict()
               for name in self.columns})

    @property
    @abstractmethod
    def parameters(self) -> Dict[str, float]:
        """What the default calibrator was fitted to."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The calibrator, for the figure."""

    @property
    @abstractmethod
    def config(self) -> str:
        """The calibrator, for a student's config."""

    @abstractmethod
    def grounds(self) -> str:
        """What calibration makes of it, in a sentence."""


@dataclass(frozen=True, eq=False)
class SoftmaxScore(TeacherScore):
    """What is known of one softmax teacher.

    Attributes:
        ace (Estimate): Adaptive calibration error over all classes.
        temperature (Estimate): Of smallest NLL.
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

    def grounds(self) -> str:
        return (f'At its fitted temperature {_text(self.temperature, 3)} the '
                f'ECE of `{self.name}` is {_text(self.calibrated_ece)}. A '
                '`softening` above 1 makes it slightly under-confident, which '
                'the paper finds best.')


@dataclass(frozen=True, eq=False)
class SigmoidScore(TeacherScore):
    """What is known of one sigmoid teacher, from its scored pairs.

    Attributes:
        sum_ratio (Estimate): Sum of the scores over sum of the targets.
        scale (Estimate): Platt scaling's, of smallest NLL.
        bias (Estimate): Platt scaling's, of smallest NLL.
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

    def grounds(self) -> str:
        return (f'With its fitted Platt scaling, a = {_text(self.scale, 3)} '
                f'and b = {_text(self.bias, 3)}, the ECE of `{self.name}` is '
                f'{_text(self.calibrated_ece)}. Every ECE is that of the '
                "pairs of a prior and a class that the teacher itself scores "
                'above a threshold.')


def score_teacher(name: str,
                  samples: TeacherScores,
                  mean_ap: float,
                  num_resamples: int = NUM_RESAMPLES,
                  seed: int = 0) -> TeacherScore:
    """Measure a teacher, with intervals from resampled images.

    Args:
        name (str): As the user calls it.
        samples (TeacherSamples | TeacherPairs): Its logits.
        mean_ap (float): Its mAP.
        num_resamples (int): Of the images. Defaults to 1000.
        seed (int): Of the resamples; the same for teachers that are to be
            compared. Defaults to 0.

    Returns:
        TeacherScore: Its figures.
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
    """Mean of figures that are not negative; NaN of none."""
    return Estimate.from_resamples(
        float(values.mean()) if len(values) else math.nan,
        resampled_mean(values, image_ids, draws),
        lowest=0)


def _calibration_errors(confidence: np.ndarray, calibrated: np.ndarray,
                        targets: np.ndarray, image_ids: np.ndarray,
                        draws: np.ndarray) -> Dict[str, Any]:
    """What a score of either activation has."""
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
    """Teachers by calibration error, and the one to take.

    Attributes:
        scores (list[TeacherScore]): Smallest ECE first.
        differences (list[Estimate]): ECE of each less the first's, on the
            same resamples; the first is 0.
        recommended (TeacherScore): Of those whose difference may be 0, the
            one with the highest mAP.
    """
    scores: List[TeacherScore]
    differences: List[Estimate]
    recommended: TeacherScore

    @classmethod
    def of(cls, scores: Iterable[TeacherScore]) -> 'TeacherRanking':
        """Rank teachers that were measured on the same resamples."""
        scores = sorted(scores, key=lambda score: score.ece.value)
        first = scores[0]
        differences = [
            Estimate.from_resamples(score.ece.value - first.ece.value,
                                    score.resampled_ece - first.resampled_ece)
            for score in scores
        ]
        equals = [
            score for score, difference in zip(scores, differences)
            # NaN, where nothing is known of a difference, tells nobody apart.
            if not difference.low > 0
        ]
        return cls(scores, differences,
                   max(equals, key=lambda score: np.nan_to_num(score.mean_ap)))

    def grounds(self) -> List[str]:
        """Why this teacher and this temperature, in sentences."""
        first, chosen = self.scores[0], self.recommended
        level = f'{CONFIDENCE_LEVEL:.0%}'
        sentences = [
            f'{PAPER}: so teachers are ranked by ECE.',
            f'`{first.name}` has the smallest ECE, {_text(first.ece)}.',
        ]
        for score, difference in zip(self.scores[1:], self.differences[1:]):
            verdict = ('it is larger' if difference.low > 0 else
                       'the two cannot be told apart on these images')
            sentences.append(
                f'The ECE of `{score.name}` less that of `{first.name}` is '
                f'{_text(difference)}: {verdict}.')
        if chosen is not first:
            sentences.append(
                f'Among those that cannot be told apart `{chosen.name}` has '
                f'the highest mAP, {_per_cent(chosen.mean_ap)}.')
        sentences.append(chosen.grounds())
        sentences.append(
            f'In brackets: {level} intervals over resampled images; they say '
            'nothing of other data sets, and the correlation is one of '
            'classifiers.')
        return sentences

    def as_markdown(self) -> str:
        """The table, the recommendation and its grounds."""
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
        return '\n'.join(lines + [f'- {line}' for line in self.grounds()])

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers and texts."""
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
                grounds=self.grounds()),
            confidence_level=CONFIDENCE_LEVEL,
            interval='percentiles over resampled images, moved so that their '
            'mean is the value; mAP is not bootstrapped')


def measure_mean_ap(detector: nn.Module, dataloader: Iterable[dict]) -> float:
    """COCO's mAP of a detector on annotated images of any data set type.

    Args:
        detector (nn.Module): In eval.
        dataloader (Iterable[dict]): Of ``build_calibration_dataloader``.

    Returns:
        float: In [0, 1]; NaN without objects.
    """
    num_classes = adapter_for(detector, 'teacher').num_classes
    collected = collect_detections(detector, dataloader, num_classes)
    precision = average_precision(collected.ground_truth,
                                  collected.detections)
    return precision.overall['mAP']


def check_comparable(detectors: Dict[str, nn.Module]) -> None:
    """Refuse teachers whose calibration errors cannot be compared.

    Those of a softmax head are of the top class of each sample, those of a
    sigmoid head of pairs above a threshold; RoIs are other samples than
    priors. A ranking across them would rank the samples. No student could
    choose between such teachers, either: one that learns from RoIs cannot
    learn from priors.

    Args:
        detectors (dict[str, nn.Module]): By name.

    Raises:
        InvalidValueError: If activations, kinds of sample or numbers of
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
