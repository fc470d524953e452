"""Labels and weights of a dense head by level, and its loss's divisor."""
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmdet.structures import SampleList
from mmdet.utils import reduce_mean
from torch import Tensor

from .classification_samples import ClassificationSamples, count_foreground
from .dense_head_specs import LossCall, Targets


def split_targets(targets: Optional[Targets], order: str, num_images: int,
                  num_priors: Sequence[int]) -> List[Dict[str, Tensor]]:
    """Split labels, quality and weights of all priors by level.

    Args:
        targets (Targets, optional): Values of all priors of the batch; None
            if the head assigns no classes.
        order (str): Order of these values, 'level' or 'image' first.
        num_images (int): Number of images N.
        num_priors (sequence[int]): Number of priors :math:`P_l` per image, for
            each level.

    Returns:
        list[dict[str, Tensor]]: For each level the values that are given,
        shape (N * :math:`P_l`,).
    """
    parts: List[Dict[str, Tensor]] = [{} for _ in num_priors]
    if targets is None:
        return parts
    for name, values in targets._asdict().items():
        if values is None:
            continue
        if order == 'level':
            levels = values.split([num_images * count for count in num_priors])
        else:
            levels = values.view(num_images, -1).split(list(num_priors), dim=1)
        for part, values_of_level in zip(parts, levels):
            part[name] = values_of_level.reshape(-1)
    return parts


def loss_divisor(kind: str, groups: Sequence[ClassificationSamples],
                 calls: Sequence[LossCall], data_samples: SampleList,
                 num_classes: int) -> Any:
    """Compute the divisor of the head's own classification loss.

    Every rank must take part in the sum over all ranks, also a rank without
    positives; otherwise the other ranks would wait forever.

    Args:
        kind (str): ``divisor`` of the ``DenseHeadSpec``.
        groups (sequence[ClassificationSamples]): Samples of all levels.
        calls (sequence[LossCall]): Calls of the head's losses.
        data_samples (list[DetDataSample]): Data samples of the batch.
        num_classes (int): Number of classes K.

    Returns:
        Tensor | float, optional: Mean over all ranks, at least 1; with the
        kind 'avg_factor' what the head gave to its loss, None without a call.
    """
    device = groups[0].logits.device
    if kind == 'avg_factor':
        return next((call.avg_factor for call in calls), None)
    if kind == 'objects':
        total = torch.tensor(
            sum(len(sample.gt_instances) for sample in data_samples),
            dtype=torch.float32,
            device=device)
    elif kind == 'positives' or groups[0].quality is None:
        total = count_foreground(groups, num_classes)
    else:
        total = torch.stack([group.quality.sum() for group in groups]).sum()
    return reduce_mean(total).clamp(min=1)
