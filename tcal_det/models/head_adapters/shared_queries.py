"""Queries of one detector, for the decoder of another.

Some detectors ask at points that are the same for any decoder: boxes. Of the
inputs of its decoder a teacher hands over those that say where; a student
makes of them, with its own layers, what its decoder takes.

Shapes: N images, Q queries of the teacher, D the student's width.
"""
from typing import Callable, Dict, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from mmdet.models.dense_heads import (ConditionalDETRHead, DABDETRHead,
                                      DeformableDETRHead, DINOHead)
from mmdet.models.layers import inverse_sigmoid
from torch import Tensor

Queries = Dict[str, Tensor]


def without_content(student: nn.Module, queries: Queries) -> Queries:
    """DAB and Conditional DETR: a query begins as zeros at its place."""
    query_pos = queries['query_pos']
    content = query_pos.new_zeros(*query_pos.shape[:2], student.embed_dims)
    return dict(query_pos=query_pos, query=content)


def content_from_boxes(student: nn.Module, queries: Queries) -> Queries:
    """Two-stage Deformable DETR: content and place are made of the box."""
    boxes = queries['reference_points']
    embedded = student.get_proposal_pos_embed(inverse_sigmoid(boxes))
    query_pos, content = student.pos_trans_norm(
        student.pos_trans_fc(embedded)).chunk(
            2, dim=2)
    return dict(reference_points=boxes, query_pos=query_pos, query=content)


def content_from_teacher(student: nn.Module, queries: Queries) -> Queries:
    """DINO: learned content, not tied to a place.

    It is the teacher's, as in KD-DETR, where it has the student's width;
    otherwise the student's own, from the first on, over again if the teacher
    has more queries.
    """
    boxes, content = queries['reference_points'], queries['query']
    own = student.query_embedding.weight
    if content.shape[-1] != own.shape[-1]:
        numbers = torch.arange(content.shape[1], device=own.device) % len(own)
        content = own[numbers].expand(len(content), -1, -1)
    return dict(reference_points=boxes, query=content)


class Sharing(NamedTuple):
    """How queries go from one detector to another of its class.

    Attributes:
        names (tuple[str, ...]): Inputs of the teacher's decoder.
        translate (Callable): ``(student, queries)`` to inputs of the
            student's decoder.
    """
    names: Tuple[str, ...]
    translate: Callable[[nn.Module, Queries], Queries]


SHARING: Dict[type, Sharing] = {
    ConditionalDETRHead: Sharing(('query_pos', ), without_content),
    DABDETRHead: Sharing(('query_pos', ), without_content),
    DeformableDETRHead: Sharing(('reference_points', ), content_from_boxes),
    DINOHead: Sharing(('reference_points', 'query'), content_from_teacher),
}


def sharing_of(detector: nn.Module) -> Optional[Sharing]:
    """How a detector's queries are shared; None if they are no points.

    Args:
        detector (nn.Module): Of the DETR family.
    """
    # Subclasses have other queries: those of DDQ come from its features.
    sharing = SHARING.get(type(detector.bbox_head))
    if sharing is None or (sharing.translate is content_from_boxes
                           and not detector.as_two_stage):
        return None
    return sharing


def difference_of(teacher: nn.Module, student: nn.Module) -> Optional[str]:
    """What of two detectors of one class keeps their queries apart.

    Args:
        teacher (nn.Module): One whose queries can be shared.
        student (nn.Module): One with the same class of head.

    Returns:
        str, optional: What follows 'the teacher X and the student Y ...';
        None if nothing does.
    """
    mine, its = (sharing_of(one) for one in (teacher, student))
    if its is None:
        return 'do not fit: the student is no two-stage detector'
    if mine.translate is not without_content:
        return None
    if any(getattr(one, 'num_patterns', 0) for one in (teacher, student)):
        return 'do not fit: `num_patterns` must be 0 in both'
    widths = [one.query_embedding.embedding_dim for one in (teacher, student)]
    if widths[0] != widths[1]:
        return ('do not fit: the places of their queries must have as many '
                f'numbers, but the teacher has {widths[0]} and the student '
                f'{widths[1]}')
    return None
