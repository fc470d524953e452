"""What a detection head classified in one training step."""
from dataclasses import dataclass, field
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor


@dataclass
class ClassificationSamples:
    """Samples that belong together: one stage, or one pyramid level.

    A sample is what the head classifies: a RoI, or a prior of a dense head.
    S samples; C columns of logits, the head's ``cls_channels``.

    Attributes:
        logits (Tensor): Those of the model that was observed, with their
            graph, shape (S, C).
        image_index (Tensor): Position in the batch of each sample's image,
            int64, shape (S,).
        where (Any): Where the samples are, for an adapter of the same
            family: RoIs of shape (S, 5), or the size of a map.
        stage (int): Stage of a cascade, or level of a pyramid. Defaults to
            0.
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


@dataclass
class Observation:
    """What a head did while a detector's loss ran.

    Attributes:
        groups (list[ClassificationSamples]): Filled when the loss is done.
        features (tuple[Tensor]): What the head was given, a map of each
            level, shape (N, D, H, W) each.
    """
    groups: List[ClassificationSamples] = field(default_factory=list)
    features: Tuple[Tensor, ...] = ()


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
