"""Matching of a teacher's predictions with a student's samples.

Shapes: S samples of the student and B predictions of the teacher in one
image; P pairs; K shared classes. Boxes are corners in pixels.
"""
from typing import Tuple

import torch
from mmcv.ops import nms
from mmdet.structures.bbox import bbox_overlaps, bbox_xyxy_to_cxcywh
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Boxes with a lower IoU belong to different objects, as in mmdet's R-CNN
# heads.
LEAST_IOU = 0.5
# IoU threshold of the NMS, and most boxes that are kept, for a teacher without
# queries, which predicts many boxes for an object.
NMS_IOU = 0.7
MOST_UNIQUE = 300
# Predictions with a lower score are not detections.
LEAST_SCORE = 0.05
# Weights of DETR's own assignment (arXiv 2005.12872, A.4; 2010.04159).
CLASS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0


def best_by_overlap(boxes: Tensor, predicted: Tensor,
                    scores: Tensor) -> Tuple[Tensor, Tensor]:
    """Match each sample with the best overlapping prediction.

    The candidates are the predictions with an IoU of at least 0.5. The one
    with the largest product of IoU and score is taken. The IoU alone is not
    sufficient, because detectors predict an object several times with low
    scores, and one of these boxes may have the highest IoU.

    Args:
        boxes (Tensor): Boxes of the samples, shape (S, 4).
        predicted (Tensor): Boxes of the predictions, shape (B, 4).
        scores (Tensor): Class probabilities of the predictions, shape (B, K).

    Returns:
        tuple[Tensor, Tensor]: Positions of the P matched samples, and of
        their predictions, int64, shape (P,) each.
    """
    if len(predicted) == 0 or len(boxes) == 0:
        return _no_pairs(boxes)
    overlaps = bbox_overlaps(boxes.float(), predicted.float())
    overlap_score = overlaps * scores.max(dim=1).values
    # Predictions without enough overlap get -1, as a score may be 0.
    overlap_score = overlap_score.where(overlaps >= LEAST_IOU,
                                        overlap_score.new_full((), -1))
    best, teacher_index = overlap_score.max(dim=1)
    student_index = (best >= 0).nonzero(as_tuple=True)[0]
    return student_index, teacher_index[student_index]


def match_sets(boxes: Tensor, probs: Tensor, predicted: Tensor, scores: Tensor,
               img_shape: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
    r"""Pair two sets of predictions one to one with the least total cost.

    The cost of a pair is :math:`5\,L_1 + 2\,(1 - \mathrm{GIoU}) - 2 \sum_c
    p_c q_c`. The :math:`L_1` distance is that of centres and sizes, relative
    to the image. Only predictions of the teacher with a score of at least
    0.05 are paired.

    Args:
        boxes (Tensor): Boxes of the student, shape (S, 4).
        probs (Tensor): Class probabilities of the student, shape (S, K).
        predicted (Tensor): Boxes of the teacher, shape (B, 4).
        scores (Tensor): Class probabilities of the teacher, shape (B, K).
        img_shape (tuple[int, int]): Height and width of the image in pixels.

    Returns:
        tuple[Tensor, Tensor]: Positions of the paired predictions of student
        and teacher, int64, shape (P,) each.

    Reference:
        Carion et al., "End-to-End Object Detection with Transformers",
        Eq. 1 and A.4; between two detectors: Chang et al., "DETRDistill",
        ICCV 2023.
    """
    confident = (scores.amax(dim=1) >= LEAST_SCORE).nonzero(as_tuple=True)[0]
    if len(confident) == 0 or len(boxes) == 0:
        return _no_pairs(boxes)
    cost = pairing_cost(boxes, probs, predicted[confident], scores[confident],
                        img_shape)
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    student_index, teacher_index = (
        torch.as_tensor(index, device=boxes.device)
        for index in (rows, columns))
    return student_index, confident[teacher_index]


def pairing_cost(boxes: Tensor, probs: Tensor, predicted: Tensor,
                 scores: Tensor, img_shape: Tuple[int, int]) -> Tensor:
    """Compute the cost of each pair; see :func:`match_sets`.

    Args:
        boxes (Tensor): Boxes of the student, shape (S, 4).
        probs (Tensor): Class probabilities of the student, shape (S, K).
        predicted (Tensor): Boxes of the teacher, shape (B, 4).
        scores (Tensor): Class probabilities of the teacher, shape (B, K).
        img_shape (tuple[int, int]): Height and width of the image in pixels.

    Returns:
        Tensor: Costs, float32, shape (S, B).
    """
    boxes, predicted = boxes.float(), predicted.float()
    height, width = img_shape
    extent = boxes.new_tensor([width, height, width, height])
    distance = torch.cdist(
        bbox_xyxy_to_cxcywh(boxes / extent),
        bbox_xyxy_to_cxcywh(predicted / extent),
        p=1)
    giou = bbox_overlaps(boxes, predicted, mode='giou')
    # Autocast would round the product to half precision.
    with torch.autocast(boxes.device.type, enabled=False):
        agreement = probs.float() @ scores.float().T
    return (L1_COST * distance + GIOU_COST * (1 - giou) -
            CLASS_COST * agreement)


def remove_duplicates(predicted: Tensor, scores: Tensor) -> Tensor:
    """Remove duplicate boxes of a detector without queries by an NMS.

    Args:
        predicted (Tensor): Boxes, shape (B, 4).
        scores (Tensor): Class probabilities, shape (B, K).

    Returns:
        Tensor: Positions of at most 300 remaining boxes, by descending score,
        int64.
    """
    if len(predicted) == 0:
        return torch.zeros(0, dtype=torch.long, device=predicted.device)
    best = scores.float().amax(dim=1)
    _, kept = nms(predicted.float(), best, iou_threshold=NMS_IOU)
    return kept[:MOST_UNIQUE]


def _no_pairs(boxes: Tensor) -> Tuple[Tensor, Tensor]:
    empty = torch.zeros(0, dtype=torch.long, device=boxes.device)
    return empty, empty
