"""What a detection head classified in one training step."""
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor


@dataclass
class ClassificationSamples:
    """Samples that belong together: one stage, or one pyramid level.

    A sample is what the head classifies: a RoI, a prior of a dense head, or
    a query.
    S samples; C columns of logits, the head's ``cls_channels``.

    Attributes:
        logits (Tensor): Those of the model that was observed, with their
            graph, shape (S, C).
        image_index (Tensor): Position in the batch of each sample's image,
            int64, shape (S,).
        where (Any): Where the samples are, for an adapter of the same
            family: RoIs of shape (S, 5), the size of a map, or positions of
            queries.
        stage (int): Stage of a cascade, level of a pyramid, or layer of a
            decoder. Defaults to 0.
        labels (Tensor, optional): Assigned classes, K for background, shape
            (S,). Defaults to None: the head's loss assigns none.
        quality (Tensor, optional): What the score of the assigned class is
            to be, e.g. the IoU of the predicted box, float, shape (S,); 0
            for background. Defaults to None, 1.
        weight (Tensor, optional): Weight of each sample in the head's own
            loss, shape (S,). Defaults to None, 1 each.
        avg_factor (float | Tensor, optional): What divides the sum over the
            samples. Defaults to None, S.
        group_weight (float): What multiplies every loss of these samples.
            Defaults to 1.0.
    """
    logits: Tensor
    image_index: Tensor
    where: Any
    stage: int = 0
    labels: Optional[Tensor] = None
    quality: Optional[Tensor] = None
    weight: Optional[Tensor] = None
    avg_factor: Union[float, Tensor, None] = None
    group_weight: float = 1.0

    def subset(self, index: Tensor) -> 'ClassificationSamples':
        """Some of the samples; what divides their sum stays.

        Args:
            index (Tensor): Their positions, int64, shape (S',).

        Returns:
            ClassificationSamples: S' samples. ``where`` is that of all.
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
    """What a head did while a detector's loss ran.

    Attributes:
        groups (list[ClassificationSamples]): Filled when the loss is done.
        features (tuple[Tensor]): What the head was given, a map of each
            level, shape (N, D, H, W) each.
        decoder_inputs (dict, optional): Keyword arguments of the decoder of a
            detector with queries, with their graph. Defaults to None.
        boxes (callable, optional): Computes the boxes of each group's
            samples, without gradient: corners in the pixels of the network's
            input, shape (S, 4) each. Filled when the loss is done, where the
            adapter can read boxes. Defaults to None.
    """
    groups: List[ClassificationSamples] = field(default_factory=list)
    features: Tuple[Tensor, ...] = ()
    decoder_inputs: Optional[Dict[str, Any]] = None
    boxes: Optional[Callable[[], List[Tensor]]] = None


@dataclass
class Predictions:
    """All that a detector says of a batch, before any threshold.

    Attributes:
        boxes (list[Tensor]): Of each image, corners in the pixels of the
            network's input, float, shape (B, 4).
        logits (list[Tensor]): Their classification, shape (B, C) each.
        are_unique (bool): Whether an object has one confident box: that of a
            query. Other detectors rely on an NMS. Defaults to False.
    """
    boxes: List[Tensor]
    logits: List[Tensor]
    are_unique: bool = False


def count_foreground(groups: Sequence[ClassificationSamples],
                     num_classes: int) -> Tensor:
    """Number of samples that were assigned to an object.

    Args:
        groups (sequence[ClassificationSamples]): Groups with labels.
        num_classes (int): Number of classes K.

    Returns:
        Tensor: A scalar of float32.
    """
    return torch.stack([
        ((group.labels >= 0) & (group.labels < num_classes)).sum().float()
        for group in groups
    ]).sum()
