"""Class probabilities of the boxes that a head keeps as detections.

mmdet's heads choose detections among priors, RoIs or queries, and return one
score for each. Here each detection also gets the row of class probabilities
from which its score was chosen. The indices of the head's own choice select
the row, so that equal scores or boxes cannot be confused. Nothing is computed
again, and the detections do not change.

Shapes: K classes; C columns, K for a sigmoid head and K + 1 with background
last for a softmax head; P priors, RoIs or queries; D detections.
"""
from typing import Any, Callable, Dict, List, NamedTuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.models.dense_heads import (ATSSVLFusionHead, DETRHead,
                                      GroundingDINOHead, PAAHead, YOLACTHead,
                                      YOLOXHead)
from mmdet.models.detectors.panoptic_two_stage_segmentor import \
    TwoStagePanopticSegmentor
from mmdet.models.roi_heads import SparseRoIHead, TridentRoIHead
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from .replaced_methods import (Replacement, TensorCalls, calls_function,
                               copy_method, global_function)

SINGLE = '_predict_by_feat_single'
POST_PROCESS = '_bbox_post_process'


class KeptRows(NamedTuple):
    """Methods that add the rows of probabilities to a detector's detections.

    Attributes:
        replacements (list[Replacement]): Methods that set ``class_probs`` in
            their return value.
        num_columns (int): Number of columns C of the rows.
    """
    replacements: List[Replacement]
    num_columns: int


def kept_rows(detector: nn.Module) -> Union[KeptRows, str]:
    """Create the methods that keep the rows of one prediction.

    The methods are chosen by the head, never by the detector's name.

    Args:
        detector (nn.Module): The detector.

    Returns:
        KeptRows | str: Methods for a single prediction, because they store
        its data; or the reason why this is not possible, as text that follows
        the detector's name in a message.
    """
    roi_head = getattr(detector, 'roi_head', None)
    head = getattr(detector, 'bbox_head', None)
    if isinstance(detector, TwoStagePanopticSegmentor):
        return 'returns segments instead of boxes'
    if isinstance(roi_head, SparseRoIHead):
        return _of_sparse_rois(roi_head)
    if roi_head is not None:
        return _of_rois(roi_head)
    if head is None:
        return ('has neither an RoI head (`roi_head`) nor a dense head or '
                'a head with queries (`bbox_head`)')
    if isinstance(head, (GroundingDINOHead, ATSSVLFusionHead)):
        return (f'has the `bbox_head` {type(head).__name__}, whose columns '
                'are words of a text instead of classes')
    if isinstance(head, DETRHead):
        return _of_queries(head)
    return _of_dense_head(head)


def _reason_unsupported(part: str, head: Any) -> str:
    return (f'has the `{part}` {type(head).__name__}, which does not choose '
            "its detections as mmdet's other heads do, so that the "
            'probabilities of a box cannot be identified')


# RoI heads


def _of_rois(roi_head: nn.Module) -> Union[KeptRows, str]:
    """Keep rows of standard and cascade RoI heads.

    The rows of a cascade are those of the averaged logits.
    """
    heads = getattr(roi_head, 'bbox_head', None)
    heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    for bbox_head in heads:
        if not calls_function(bbox_head, SINGLE, 'multiclass_nms'):
            return _reason_unsupported('roi_head.bbox_head', bbox_head)
    columns = heads[-1].num_classes + 1
    replacements = [
        Replacement(bbox_head, SINGLE, _rows_of_nms(bbox_head, columns))
        for bbox_head in heads
    ]
    if isinstance(roi_head, TridentRoIHead):
        name = 'merge_trident_bboxes'
        if not calls_function(roi_head, name, 'batched_nms'):
            return _reason_unsupported('roi_head', roi_head)
        replacements.append(
            Replacement(roi_head, name, _rows_of_branches(roi_head, name)))
    return KeptRows(replacements, columns)


def _rows_of_nms(head: nn.Module, num_columns: int) -> Callable:
    """Replace ``_predict_by_feat_single`` of a head with multiclass NMS."""
    multiclass_nms = global_function(head, SINGLE, 'multiclass_nms')
    rows: List[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, *args, **kwargs) -> tuple:
        *kept, index = multiclass_nms(
            boxes, scores, *args, return_inds=True, **kwargs)
        rows.append(scores[_row_of(index, scores)])
        return tuple(kept)

    single = copy_method(head, SINGLE, multiclass_nms=nms)

    def predict_single(*args, **kwargs) -> InstanceData:
        rows.clear()
        results = single(*args, **kwargs)
        if rows:
            results.class_probs = rows[0]
        elif results.scores.dim() == 1:
            # An image without RoIs has no detections. Two-dimensional scores
            # are those of all classes without NMS, which older test-time
            # augmentation uses; they get no rows.
            results.class_probs = results.scores.new_zeros(
                len(results), num_columns)
        return results

    return predict_single


def _row_of(index: Tensor, scores_with_background: Tensor) -> Tensor:
    """Convert NMS indices of (row, class) pairs to row indices."""
    num_classes = scores_with_background.shape[1] - 1
    return torch.div(index, num_classes, rounding_mode='floor')


def _rows_of_branches(roi_head: nn.Module, name: str) -> Callable:
    """Replace the method that merges TridentNet's branches by another NMS."""
    batched_nms = global_function(roi_head, name, 'batched_nms')
    kept: List[Tensor] = []

    def nms(*args, **kwargs) -> tuple:
        found = batched_nms(*args, **kwargs)
        kept.append(found[1])
        return found

    merge = copy_method(roi_head, name, batched_nms=nms)

    def merge_branches(branches: InstanceList) -> InstanceData:
        if 'class_probs' not in branches[0]:  # no image had an RoI
            return merge(branches)
        kept.clear()
        rows = torch.cat([branch.class_probs for branch in branches])
        results = merge(branches)
        if kept:
            rows = rows[kept[0]]
        results.class_probs = rows[:len(results)]
        return results

    return merge_branches


# Heads with queries


def _of_queries(head: nn.Module) -> Union[KeptRows, str]:
    """Keep rows of DETR and derived heads.

    A softmax head chooses the best queries, a sigmoid head the best pairs of
    a query and a class.
    """
    if not calls_function(head, SINGLE, 'topk'):
        return _reason_unsupported('bbox_head', head)
    original = getattr(head, SINGLE)
    is_sigmoid = head.loss_cls.use_sigmoid

    def predict_single(cls_score: Tensor, *args, **kwargs) -> InstanceData:
        chosen: List[Tensor] = []
        with TensorCalls(topk=lambda _, result: chosen.append(result.indices)):
            results = original(cls_score, *args, **kwargs)
        if is_sigmoid:
            rows = cls_score.sigmoid()
            index = torch.div(chosen[0], rows.shape[1], rounding_mode='floor')
        else:
            rows, index = F.softmax(cls_score, dim=-1), chosen[0]
        results.class_probs = rows[index]
        return results

    columns = head.num_classes + (not is_sigmoid)
    return KeptRows([Replacement(head, SINGLE, predict_single)], columns)


def _of_sparse_rois(roi_head: nn.Module) -> Union[KeptRows, str]:
    """Keep rows of Sparse R-CNN and QueryInst.

    They choose the best pairs of a query and a class.
    """
    if not calls_function(roi_head, 'predict_bbox', 'topk'):
        return _reason_unsupported('roi_head', roi_head)
    original = roi_head.predict_bbox
    bbox_head = roi_head.bbox_head[-1]
    num_classes = bbox_head.num_classes
    is_sigmoid = bbox_head.loss_cls.use_sigmoid

    def predict_bbox(*args, **kwargs) -> InstanceList:
        rows: List[Tensor] = []
        softmax: Dict[str, Tensor] = {}

        def record_topk(args: tuple, result: Any) -> None:
            index = torch.div(
                result.indices, num_classes, rounding_mode='floor')
            of_image = (
                args[0].view(-1, num_classes)
                if is_sigmoid else softmax['last'][len(rows)])
            rows.append(of_image[index])

        # Attention also calls softmax, but before the classification.
        with TensorCalls(
                topk=record_topk,
                softmax=lambda _, result: softmax.update(last=result)):
            results_list = original(*args, **kwargs)
        for results, of_image in zip(results_list, rows):
            results.class_probs = of_image
        return results_list

    columns = num_classes + (not is_sigmoid)
    return KeptRows([Replacement(roi_head, 'predict_bbox', predict_bbox)],
                    columns)


# Dense heads


def _of_dense_head(head: nn.Module) -> Union[KeptRows, str]:
    """Keep rows of dense heads: the class probabilities before any product.

    Some heads multiply them by centerness, objectness or a predicted IoU.
    These factors belong to a box, not to a class, and are not in the rows.
    """
    make = next(
        (make for cls, make in _OF_CLASS.items() if isinstance(head, cls)),
        _rows_of_levels)
    replacements = make(head)
    if not replacements:
        return _reason_unsupported('bbox_head', head)
    is_sigmoid = getattr(head, 'use_sigmoid_cls', True)
    return KeptRows(replacements, head.num_classes + (not is_sigmoid))


def _rows_of_levels(head: nn.Module) -> List[Replacement]:
    """Keep rows of heads that call ``filter_scores_and_topk`` per level.

    NMS selects all fields of its ``results`` together with the boxes, and so
    also a field with the index of the row.
    """
    selection_method = next(
        (name for name in ('predict_by_feat', SINGLE)
         if calls_function(head, name, 'filter_scores_and_topk')), None)
    if selection_method is None:
        return []
    post_process = next(
        (name for name in ('_bbox_mask_post_process', POST_PROCESS)
         if calls_function(head, selection_method, name)), None)
    if post_process is None:
        return []
    filter_scores = global_function(head, selection_method,
                                    'filter_scores_and_topk')
    is_sigmoid = getattr(head, 'use_sigmoid_cls', True)
    levels: List[Tensor] = []
    softmax: Dict[str, Tensor] = {}

    def filter_and_record(scores: Tensor, *args, **kwargs) -> tuple:
        found = filter_scores(scores, *args, **kwargs)
        # A softmax head passes its probabilities without the last column.
        rows = scores if is_sigmoid else softmax['last']
        levels.append(rows[found[2]])
        return found

    select = copy_method(
        head, selection_method, filter_scores_and_topk=filter_and_record)

    def select_from_softmax(*args, **kwargs) -> InstanceData:
        with TensorCalls(
                softmax=lambda _, result: softmax.update(last=result)):
            return select(*args, **kwargs)

    original = getattr(head, post_process)

    def with_rows(results: InstanceData, *args, **kwargs) -> InstanceData:
        rows = torch.cat(levels)
        levels.clear()
        return _with_rows_of_kept(original, results, rows, *args, **kwargs)

    return [
        Replacement(head, selection_method,
                    select if is_sigmoid else select_from_softmax),
        Replacement(head, post_process, with_rows)
    ]


def _with_rows_of_kept(process: Callable, results: InstanceData, rows: Tensor,
                       *args, **kwargs) -> InstanceData:
    """Pass row indices through NMS, which is cheaper than passing rows."""
    results.class_probs = torch.arange(len(rows), device=rows.device)
    results = process(results, *args, **kwargs)
    results.class_probs = rows[results.class_probs]
    return results


def _rows_of_paa(head: nn.Module) -> List[Replacement]:
    """Keep rows of PAA.

    Its NMS uses products with predicted IoUs, and is followed by a vote.
    """
    if not calls_function(head, POST_PROCESS, 'multiclass_nms'):
        return []
    multiclass_nms = global_function(head, POST_PROCESS, 'multiclass_nms')
    kept: List[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, *args, **kwargs) -> tuple:
        *found, index = multiclass_nms(
            boxes, scores, *args, return_inds=True, **kwargs)
        kept.append(_row_of(index, scores))
        return tuple(found)

    process = copy_method(head, POST_PROCESS, multiclass_nms=nms)
    vote = head.score_voting

    def with_rows(results: InstanceData, *args, **kwargs) -> InstanceData:
        kept.clear()
        rows = results.scores
        results = process(results, *args, **kwargs)
        results.class_probs = rows[kept[0]]
        return results

    def vote_in_order(boxes: Tensor, labels: Tensor, *args) -> tuple:
        # The vote returns the detections sorted by class.
        kept[0] = kept[0][labels.sort(stable=True).indices]
        return vote(boxes, labels, *args)

    return [
        Replacement(head, POST_PROCESS, with_rows),
        Replacement(head, 'score_voting', vote_in_order)
    ]


def _rows_of_yolox(head: nn.Module) -> List[Replacement]:
    """Keep rows of YOLOX.

    It takes the best class of each cell, and selects cells by a mask of their
    scores.
    """
    if not calls_function(head, 'predict_by_feat', POST_PROCESS):
        return []
    predict, process = head.predict_by_feat, getattr(head, POST_PROCESS)
    last: Dict[str, Tensor] = {}
    callbacks = dict(
        max=lambda args, _: last.update(rows=args[0]),
        ge=lambda _, result: last.update(mask=result),
        __ge__=lambda _, result: last.update(mask=result))

    def predict_by_feat(*args, **kwargs) -> InstanceList:
        with TensorCalls(**callbacks):
            return predict(*args, **kwargs)

    def with_rows(results: InstanceData, *args, **kwargs) -> InstanceData:
        rows = last['rows'][last['mask']]
        return _with_rows_of_kept(process, results, rows, *args, **kwargs)

    return [
        Replacement(head, 'predict_by_feat', predict_by_feat),
        Replacement(head, POST_PROCESS, with_rows)
    ]


def _rows_of_yolact(head: nn.Module) -> List[Replacement]:
    """Keep rows of YOLACT.

    Its NMS also selects the mask coefficients; the rows are appended to them.
    """
    if not calls_function(head, POST_PROCESS, 'fast_nms'):
        return []
    fast_nms = global_function(head, POST_PROCESS, 'fast_nms')
    columns = head.num_classes + (not head.use_sigmoid_cls)
    rows: List[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, coefficients: Tensor, *args,
            **kwargs) -> tuple:
        both = torch.cat([coefficients, scores[:, :columns]], dim=1)
        *found, both = fast_nms(boxes, scores, both, *args, **kwargs)
        rows.append(both[:, -columns:])
        return (*found, both[:, :-columns])

    process = copy_method(head, POST_PROCESS, fast_nms=nms)

    def with_rows(*args, **kwargs) -> InstanceData:
        rows.clear()
        results = process(*args, **kwargs)
        results.class_probs = rows[0]
        return results

    return [Replacement(head, POST_PROCESS, with_rows)]


_OF_CLASS: Dict[type, Callable[[nn.Module], List[Replacement]]] = {
    PAAHead: _rows_of_paa,
    YOLACTHead: _rows_of_yolact,
    YOLOXHead: _rows_of_yolox,
}
