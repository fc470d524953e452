"""Samples that a detection head classifies in one training step."""
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor


@dataclass
class ClassificationSamples:
    """A group of samples: those of one stage, pyramid level or decoder layer.

    A sample is one RoI, one prior of a dense head, or one query.

    Shapes: S samples; C columns of logits, the head's ``cls_channels``.

    Attributes:
        logits (Tensor): Logits of the observed model with their graph, shape
            (S, C).
        image_index (Tensor): Position of each sample's image in the batch,
            int64, shape (S,).
        location (Any): Position of the samples, read only by an adapter of the
            same family: RoIs of shape (S, 5), the height and width of a
            map, or positions of queries.
        stage (int): Stage of a cascade, level of a pyramid, or layer of a
            decoder. Defaults to 0.
        labels (Tensor, optional): Assigned classes, K for background, shape
            (S,). Defaults to None, if the head's loss assigns no classes.
        quality (Tensor, optional): Target of the score of the assigned
            class, e.g. the IoU of the predicted box, 0 for background,
            float, shape (S,). Defaults to None, a target of 1.
        weight (Tensor, optional): Weight of each sample in the head's own
            loss, shape (S,). Defaults to None, a weight of 1.
        avg_factor (float | Tensor, optional): Divisor of the sum over the
            samples. Defaults to None, a divisor of S.
        group_weight (float): Factor of every loss on these samples. Defaults
            to 1.0.
    """
    logits: Tensor
    image_index: Tensor
    location: Any
    stage: int = 0
    labels: Optional[Tensor] = None
    quality: Optional[Tensor] = None
    weight: Optional[Tensor] = None
    avg_factor: Union[float, Tensor, None] = None
    group_weight: float = 1.0

    def subset(self, index: Tensor) -> 'ClassificationSamples':
        """Select samples; the divisor of their sum does not change.

        Args:
            index (Tensor): Positions of the samples, int64, shape (S',).

        Returns:
            ClassificationSamples: The S' selected samples; ``location`` is
            still that of all samples.
        """
        chosen = {
            name: value if value is None else value[index]
            for name, value in dict(
                logits=self.logits,
                image_index=self.image_index,
                labels=self.labels,
                quality=self.quality,
                weight=self.weight).items()
        }
        avg_factor = self.avg_factor
        if avg_factor is None:
            avg_factor = float(max(len(self.logits), 1))
        return replace(self, avg_factor=avg_factor, **chosen)


@dataclass
class Observation:
    """Data of a head, recorded during a detector's loss.

    Attributes:
        groups (list[ClassificationSamples]): Groups of samples; filled after
            the loss.
        features (tuple[Tensor]): Input of the head, one map per level, shape
            (N, D, H, W) each.
        decoder_inputs (dict[str, Any], optional): Keyword arguments of the
            decoder of a detector with queries, with their graph. Defaults to
            None.
        boxes (callable, optional): Function that computes the boxes of the
            samples of each group, without gradient: corners in pixels of the
            network's input, shape (S, 4) each. Filled after the loss, if the
            adapter can read boxes. Defaults to None.
    """
    groups: List[ClassificationSamples] = field(default_factory=list)
    features: Tuple[Tensor, ...] = ()
    decoder_inputs: Optional[Dict[str, Any]] = None
    boxes: Optional[Callable[[], List[Tensor]]] = None


@dataclass
class Predictions:
    """All predictions of a detector for a batch, before any threshold.

    Attributes:
        boxes (list[Tensor]): Box corners for each image, in pixels of the
            network's input, float, shape (B, 4).
        logits (list[Tensor]): Class logits of these boxes, shape (B, C)
            each.
        are_unique (bool): Whether each object has only one confident box, as
            detectors with queries predict. Other detectors need an NMS.
            Defaults to False.
    """
    boxes: List[Tensor]
    logits: List[Tensor]
    are_unique: bool = False


def count_foreground(groups: Sequence[ClassificationSamples],
                     num_classes: int) -> Tensor:
    """Count the samples that are assigned to an object.

    Args:
        groups (sequence[ClassificationSamples]): Groups with labels.
        num_classes (int): Number of classes K.

    Returns:
        Tensor: Number of foreground samples, a float32 scalar.
    """
    return torch.stack([
        ((group.labels >= 0) & (group.labels < num_classes)).sum().float()
        for group in groups
    ]).sum()
