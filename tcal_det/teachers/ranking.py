"""Rank teachers by calibration error, with confidence intervals."""
import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List

import numpy as np
import torch.nn as nn

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.average_precision import average_precision
from tcal_det.models.head_adapters import adapter_for
from tcal_det.tables import markdown_table
from .detections import collect_detections
from .image_bootstrap import CONFIDENCE_LEVEL, Estimate
from .teacher_score import TeacherScore

PAPER = ('Kim et al. (arXiv 2508.20224) find that the accuracy of a student '
         'correlates more with the calibration error of its teacher '
         '(R^2 = .92 on CIFAR-100) than with the accuracy of the teacher '
         '(R^2 = .56)')


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
            f'`{first.name}` has the smallest ECE, {first.ece.text()}.',
        ]
        for score, difference in zip(self.scores[1:], self.differences[1:]):
            verdict = ('it is larger' if difference.low > 0 else
                       'the two are not distinguishable on these images')
            sentences.append(
                f'The ECE of `{score.name}` minus that of `{first.name}` is '
                f'{difference.text()}: {verdict}.')
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
                *(getattr(score, attribute).text(digits)
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
    precision = average_precision(collected.ground_truth, collected.detections)
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


def _per_cent(mean_ap: float) -> str:
    return 'n/a' if math.isnan(mean_ap) else f'{100 * mean_ap:.1f}'
