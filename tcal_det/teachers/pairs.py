"""Collect a sigmoid teacher's scores and their targets.

Each column of a sigmoid head is a binary classifier. Therefore a sample is a
pair of a place (prior, RoI or query) and a class. Nearly all pairs are
background.

Shapes: S places of a batch; C columns of logits; N kept pairs or places.
"""
from dataclasses import dataclass
from typing import Dict

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from tcal_det.errors import InvalidValueError
from tcal_det.models.head_adapters import ClassificationSamples, HeadAdapter
from .reservoir import Reservoir
from .soft_label_figures import non_target_variance

# mmdet's usual `test_cfg.score_thr`: detection drops lower scores.
SCORE_THRESHOLD = 0.05


@dataclass(frozen=True, eq=False)
class PairSelection:
    """Selected pairs of a place and a class.

    Attributes:
        logits (ndarray): Uncalibrated logits, float32, shape (N,).
        targets (ndarray): Targets of the scores, in [0, 1], float32, shape
            (N,).
        image_ids (ndarray): Position of the image in the split, shape (N,).
        num_seen (int): Number of pairs of which these N were drawn.
    """
    logits: np.ndarray
    targets: np.ndarray
    image_ids: np.ndarray
    num_seen: int


@dataclass(frozen=True, eq=False)
class PlaceSelection:
    """Selected places, each with all of its classes.

    Attributes:
        non_target_variance (ndarray): Variance of the uncalibrated scores
            over all classes except the assigned one, or over all classes if
            the place is background; float64, shape (N,).
        image_ids (ndarray): Position of the image in the split, shape (N,).
        num_seen (int): Number of places of which these N were drawn.
    """
    non_target_variance: np.ndarray
    image_ids: np.ndarray
    num_seen: int


@dataclass(frozen=True, eq=False)
class TeacherPairs:
    """Scores of a sigmoid teacher with their targets.

    Attributes:
        scored (PairSelection): Sample of the pairs with a score above
            ``score_threshold``.
        all (PairSelection): Sample of all pairs.
        scored_places (PlaceSelection): Sample of the places with a score
            above ``score_threshold`` that have another class than the
            assigned one.
        score_threshold (float): Threshold of the scored pairs, in (0, 1).
        sum_scores (float): Sum of the scores over all pairs.
        sum_targets (float): Sum of the targets over all pairs, > 0.
        cls_channels (int): Number of columns of the logits.
        num_images (int): Number of images of the split.
        scores_iou (bool): Whether the targets are IoUs instead of 0 or 1.
        sample_name (str): Name of the places, in the plural.
    """
    scored: PairSelection
    all: PairSelection
    scored_places: PlaceSelection
    score_threshold: float
    sum_scores: float
    sum_targets: float
    cls_channels: int
    num_images: int
    scores_iou: bool
    sample_name: str

    activation = 'sigmoid'
    # Name of the drawn samples, in the plural.
    unit = 'pairs of each selection'

    @property
    def base_rate(self) -> float:
        """Mean target over all pairs."""
        return self.sum_targets / self.all.num_seen

    def describe(self) -> Dict[str, object]:
        """Describe the pairs in plain numbers for the JSON file."""
        return dict(
            score_threshold=self.score_threshold,
            num_seen=self.all.num_seen,
            num_used=len(self.all.logits),
            num_scored_seen=self.scored.num_seen,
            num_scored_used=len(self.scored.logits),
            sum_scores=self.sum_scores,
            sum_targets=self.sum_targets,
            base_rate=self.base_rate,
            targets='IoU' if self.scores_iou else '0 or 1')


class PairCollector:
    """Collector that draws all selections in bounded memory.

    Args:
        adapter (HeadAdapter): Adapter of the teacher.
        max_samples (int): Maximum number of pairs of each selection.
        seed (int): Random seed of the draws.
    """

    def __init__(self, adapter: HeadAdapter, max_samples: int,
                 seed: int) -> None:
        self._adapter = adapter
        self._threshold = score_threshold(adapter.detector)
        self._all, self._scored = (
            Reservoir(max_samples, seed, 'pairs') for _ in range(2))
        self._scored_places = Reservoir(max_samples, seed, 'places')
        self._sum_scores = self._sum_targets = 0.0

    def add(self, group: ClassificationSamples, first_image: int) -> None:
        """Add the pairs of a group of places, except ignored places.

        Args:
            group (ClassificationSamples): Places with labels.
            first_image (int): Position of the batch's first image in the
                split.

        Raises:
            InvalidValueError: If a logit is not finite.
        """
        logits, targets = group.logits.float(), pair_targets(group)
        image_ids, labels = group.image_index + first_image, group.labels
        if group.weight is not None:
            kept = group.weight > 0
            logits, targets, image_ids, labels = (
                values[kept]
                for values in (logits, targets, image_ids, labels))
        if not logits.isfinite().all():
            raise InvalidValueError(
                "the teacher's logits must be finite, but some are NaN or "
                "infinite: check the teacher's checkpoint and run it in "
                'float32')
        cls_channels = logits.shape[1]
        scores = logits.sigmoid()
        self._sum_scores += scores.sum(dtype=torch.float64).item()
        self._sum_targets += targets.sum(dtype=torch.float64).item()
        is_scored = (scores > self._threshold).flatten().nonzero()[:, 0]

        def take(pairs: Tensor) -> Dict[str, np.ndarray]:
            place = torch.div(pairs, cls_channels, rounding_mode='floor')
            return dict(
                logits=_to_numpy(logits.flatten()[pairs]),
                targets=_to_numpy(targets.flatten()[pairs]),
                image_ids=_to_numpy(image_ids[place]))

        self._all.add(
            logits.numel(),
            lambda chosen: take(torch.from_numpy(chosen).to(logits.device)))
        self._scored.add(
            len(is_scored), lambda chosen: take(is_scored[torch.from_numpy(
                chosen).to(logits.device)]))
        self._add_places(scores, labels, image_ids)

    def _add_places(self, scores: Tensor, labels: Tensor,
                    image_ids: Tensor) -> None:
        is_taken = (scores > self._threshold).any(dim=1)
        if scores.shape[1] == 1:
            # If the only class is the target, there is no other class.
            is_taken &= labels != 0
        places = is_taken.nonzero()[:, 0]

        def take(chosen: np.ndarray) -> Dict[str, np.ndarray]:
            rows = places[torch.from_numpy(chosen).to(places.device)]
            return dict(
                non_target_variance=non_target_variance(
                    _to_numpy(scores[rows]).astype(np.float64),
                    _to_numpy(labels[rows])),
                image_ids=_to_numpy(image_ids[rows]))

        self._scored_places.add(len(places), take)

    def result(self, num_images: int) -> TeacherPairs:
        """Return the pairs of all images.

        Args:
            num_images (int): Number of images of the split.

        Returns:
            TeacherPairs: All selections.

        Raises:
            InvalidValueError: If no place was assigned to an object, or no
                score is above the threshold.
        """
        name = self._adapter.sample_name
        if self._sum_targets == 0:
            raise InvalidValueError(
                'the images must have annotated objects, but none of the '
                f'{name} in {num_images} images was assigned to one: choose '
                'a split with annotations (--split)')
        if self._scored.num_seen == 0:
            raise InvalidValueError(
                f'the teacher must give some of its {name} a score above '
                f'{self._threshold:g}, but gave none of them in {num_images} '
                'images: check that the checkpoint is one of a trained '
                'detector')
        scored, all_pairs = (
            PairSelection(**reservoir.columns(), num_seen=reservoir.num_seen)
            for reservoir in (self._scored, self._all))
        places = dict(
            dict(
                non_target_variance=np.empty(0),
                image_ids=np.empty(0, np.int64)),
            **self._scored_places.columns())
        return TeacherPairs(
            scored=scored,
            all=all_pairs,
            scored_places=PlaceSelection(
                **places, num_seen=self._scored_places.num_seen),
            score_threshold=self._threshold,
            sum_scores=self._sum_scores,
            sum_targets=self._sum_targets,
            cls_channels=self._adapter.cls_channels,
            num_images=num_images,
            scores_iou=self._adapter.scores_iou,
            sample_name=name)


def pair_targets(group: ClassificationSamples) -> Tensor:
    """Return the target of each score of a sigmoid head.

    Args:
        group (ClassificationSamples): Places with labels.

    Returns:
        Tensor: Targets in [0, 1], float32, shape (S, C). The column of the
        label holds 1, or the quality of the sample; all others hold 0. The
        background label has no column, so its rows are zero.
    """
    columns = torch.arange(group.logits.shape[1], device=group.labels.device)
    targets = (group.labels[:, None] == columns).float()
    if group.quality is not None:
        targets *= group.quality[:, None]
    return targets


def score_threshold(detector: nn.Module) -> float:
    """Return the score above which a pair counts as scored.

    Args:
        detector (nn.Module): Detector with mmdet's ``test_cfg``.

    Returns:
        float: The detector's ``score_thr``, but at least 0.05.
    """
    test_cfg = detector.test_cfg or {}
    test_cfg = test_cfg.get('rcnn', test_cfg)
    return max(SCORE_THRESHOLD, test_cfg.get('score_thr', 0.0))


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
