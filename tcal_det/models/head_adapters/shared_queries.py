"""Use of one detector's queries in the decoder of another detector.

The queries of some detectors are positions (boxes), which have the same
meaning for any decoder. The teacher supplies the decoder inputs that hold the
positions. The student computes the other inputs of its decoder from them,
with its own layers.

Shapes: N images; Q queries of the teacher; D channels of a student's query.
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
    """Make queries of DAB and Conditional DETR: zero content at a position."""
    query_pos = queries['query_pos']
    content = query_pos.new_zeros(*query_pos.shape[:2], student.embed_dims)
    return dict(query_pos=query_pos, query=content)


def content_from_boxes(student: nn.Module, queries: Queries) -> Queries:
    """Make queries of two-stage Deformable DETR from their boxes."""
    boxes = queries['reference_points']
    embedded = student.get_proposal_pos_embed(inverse_sigmoid(boxes))
    query_pos, content = student.pos_trans_norm(
        student.pos_trans_fc(embedded)).chunk(
            2, dim=2)
    return dict(reference_points=boxes, query_pos=query_pos, query=content)


def content_from_teacher(student: nn.Module, queries: Queries) -> Queries:
    """Make queries of DINO, whose learned content is independent of the box.

    The content is the teacher's, as in KD-DETR, if it has as many channels
    as the student's. Otherwise it is the student's own, in order, and
    repeated from the beginning if the teacher has more queries.
    """
    boxes, content = queries['reference_points'], queries['query']
    weight = student.query_embedding.weight
    if content.shape[-1] != weight.shape[-1]:
        numbers = torch.arange(
            content.shape[1], device=weight.device) % len(weight)
        content = weight[numbers].expand(len(content), -1, -1)
    return dict(reference_points=boxes, query=content)


class QuerySharing(NamedTuple):
    """Rule to use the queries of a teacher in a student of the same kind.

    Attributes:
        names (tuple[str, ...]): Names of the inputs of the teacher's decoder
            that are used.
        convert (callable): Function of ``(student, queries)`` that returns
            inputs of the student's decoder.
    """
    names: Tuple[str, ...]
    convert: Callable[[nn.Module, Queries], Queries]


QUERY_SHARING: Dict[type, QuerySharing] = {
    ConditionalDETRHead: QuerySharing(('query_pos', ), without_content),
    DABDETRHead: QuerySharing(('query_pos', ), without_content),
    DeformableDETRHead: QuerySharing(('reference_points', ),
                                     content_from_boxes),
    DINOHead: QuerySharing(('reference_points', 'query'),
                           content_from_teacher),
}


def query_sharing(detector: nn.Module) -> Optional[QuerySharing]:
    """Look up how a detector's queries are shared.

    Args:
        detector (nn.Module): Detector of the DETR family.

    Returns:
        QuerySharing, optional: Rule for its kind of queries; None if they
        are not positions.
    """
    # The exact type only: queries of a subclass may differ, e.g. those of DDQ
    # come from its features.
    sharing = QUERY_SHARING.get(type(detector.bbox_head))
    if sharing is None or (sharing.convert is content_from_boxes
                           and not detector.as_two_stage):
        return None
    return sharing


def reason_against_sharing(teacher: nn.Module,
                           student: nn.Module) -> Optional[str]:
    """Explain why the student's decoder cannot take the teacher's queries.

    Args:
        teacher (nn.Module): Detector whose queries can be shared.
        student (nn.Module): Detector with the same class of head.

    Returns:
        str, optional: Text that follows 'the teacher X and the student Y
        ...' in a message; None if the decoder can take them.
    """
    teacher_sharing, student_sharing = (
        query_sharing(detector) for detector in (teacher, student))
    if student_sharing is None:
        return 'do not fit: the student is not a two-stage detector'
    if teacher_sharing.convert is not without_content:
        return None
    if any(
            getattr(detector, 'num_patterns', 0)
            for detector in (teacher, student)):
        return 'do not fit: `num_patterns` must be 0 in both'
    widths = [
        detector.query_embedding.embedding_dim
        for detector in (teacher, student)
    ]
    if widths[0] != widths[1]:
        return ('do not fit: their query embeddings must have the same '
                f'width, but the teacher has {widths[0]} and the student '
                f'{widths[1]}')
    return None
