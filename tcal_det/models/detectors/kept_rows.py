"""The class probabilities of those boxes that a head keeps.

mmdet's heads choose detections among priors, RoIs or queries, and return
one score of each. Here the row of probabilities that a head chose from goes
with each detection: the choice itself says which row it was, so that equal
scores or boxes cannot be mistaken for each other. Nothing is computed anew,
and what is chosen does not change.

Shapes: K classes; C columns, K of a sigmoid head, and K + 1 with background
last of a softmax head; P priors, RoIs or queries; D detections.
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

from .replaced_methods import (Replacement, TensorCalls, calls, global_of,
                               with_function)

SINGLE = '_predict_by_feat_single'
POST_PROCESS = '_bbox_post_process'


class KeptRows(NamedTuple):
    """How the detections of a detector get their rows.

    Attributes:
        replacements (list[Replacement]): Methods that set ``class_probs`` of
            what they return.
        num_columns (int): Number of columns C.
    """
    replacements: List[Replacement]
    num_columns: int


def kept_rows(detector: nn.Module) -> Union[KeptRows, str]:
    """Make the methods that keep the rows of one prediction.

    Args:
        detector (nn.Module): Chosen by its head, never by its name.

    Returns:
        KeptRows | str: For one prediction, as the methods hold what they saw
        in it; or why this detector has no such rows, which goes on after its
        name.
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
                'one with queries (`bbox_head`)')
    if isinstance(head, (GroundingDINOHead, ATSSVLFusionHead)):
        return (f'has the `bbox_head` {type(head).__name__}, whose columns '
                'are words of a text instead of classes')
    if isinstance(head, DETRHead):
        return _of_queries(head)
    return _of_dense_head(head)


def _unknown(part: str, head: Any) -> str:
    return (f'has the `{part}` {type(head).__name__}, which does not choose '
            "its detections as mmdet's other heads do: the probabilities "
            'that belong to a box cannot be told')


# RoI heads


def _of_rois(roi_head: nn.Module) -> Union[KeptRows, str]:
    """Standard and cascade RoI heads; a cascade averages its logits."""
    heads = getattr(roi_head, 'bbox_head', None)
    heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    for bbox_head in heads:
        if not calls(bbox_head, SINGLE, 'multiclass_nms'):
            return _unknown('roi_head.bbox_head', bbox_head)
    columns = heads[-1].num_classes + 1
    replacements = [
        Replacement(bbox_head, SINGLE, _rows_of_nms(bbox_head, columns))
        for bbox_head in heads
    ]
    if isinstance(roi_head, TridentRoIHead):
        name = 'merge_trident_bboxes'
        if not calls(roi_head, name, 'batched_nms'):
            return _unknown('roi_head', roi_head)
        replacements.append(
            Replacement(roi_head, name, _rows_of_branches(roi_head, name)))
    return KeptRows(replacements, columns)


def _rows_of_nms(head: nn.Module, num_columns: int) -> Callable:
    """``_predict_by_feat_single`` of a head that calls ``multiclass_nms``."""
    multiclass_nms = global_of(head, SINGLE, 'multiclass_nms')
    rows: List[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, *args, **kwargs) -> tuple:
        *kept, index = multiclass_nms(
            boxes, scores, *args, return_inds=True, **kwargs)
        rows.append(scores[_row_of(index, scores)])
        return tuple(kept)

    single = with_function(head, SINGLE, multiclass_nms=nms)

    def predict_single(*args, **kwargs) -> InstanceData:
        rows.clear()
        results = single(*args, **kwargs)
        if rows:
            results.class_probs = rows[0]
        elif results.scores.dim() == 1:
            # An image without RoIs has no detections. Without NMS, as older
            # test-time augmentation asks for, scores are of all classes.
            results.class_probs = results.scores.new_zeros(
                len(results), num_columns)
        return results

    return predict_single


def _row_of(index: Tensor, scores_with_background: Tensor) -> Tensor:
    """The row of each pair of a row and a class that NMS counts."""
    num_classes = scores_with_background.shape[1] - 1
    return torch.div(index, num_classes, rounding_mode='floor')


def _rows_of_branches(roi_head: nn.Module, name: str) -> Callable:
    """TridentNet joins the detections of its branches by another NMS."""
    batched_nms = global_of(roi_head, name, 'batched_nms')
    kept: List[Tensor] = []

    def nms(*args, **kwargs) -> tuple:
        found = batched_nms(*args, **kwargs)
        kept.append(found[1])
        return found

    merge = with_function(roi_head, name, batched_nms=nms)

    def merge_branches(branches: InstanceList) -> InstanceData:
        if 'class_probs' not in branches[0]:  # no image had a RoI
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
    """DETR and its descendants: the best queries, or pairs with a class."""
    if not calls(head, SINGLE, 'topk'):
        return _unknown('bbox_head', head)
    own = getattr(head, SINGLE)
    is_sigmoid = head.loss_cls.use_sigmoid

    def predict_single(cls_score: Tensor, *args, **kwargs) -> InstanceData:
        chosen: List[Tensor] = []
        with TensorCalls(topk=lambda _, result: chosen.append(result.indices)):
            results = own(cls_score, *args, **kwargs)
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
    """Sparse R-CNN and QueryInst: the best pairs of a query and a class."""
    if not calls(roi_head, 'predict_bbox', 'topk'):
        return _unknown('roi_head', roi_head)
    own = roi_head.predict_bbox
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

        # Attention takes softmax too, but before the classification does.
        with TensorCalls(
                topk=record_topk,
                softmax=lambda _, result: softmax.update(last=result)):
            results_list = own(*args, **kwargs)
        for results, of_image in zip(results_list, rows):
            results.class_probs = of_image
        return results_list

    columns = num_classes + (not is_sigmoid)
    return KeptRows([Replacement(roi_head, 'predict_bbox', predict_bbox)],
                    columns)


# Dense heads


def _of_dense_head(head: nn.Module) -> Union[KeptRows, str]:
    """Anchors, points and cells: what the head's scores are made of.

    Centerness, objectness and predicted IoUs, which it multiplies to them,
    are of a box and not of a class.
    """
    make = next(
        (make for cls, make in _OF_CLASS.items() if isinstance(head, cls)),
        _rows_of_levels)
    replacements = make(head)
    if not replacements:
        return _unknown('bbox_head', head)
    is_sigmoid = getattr(head, 'use_sigmoid_cls', True)
    return KeptRows(replacements, head.num_classes + (not is_sigmoid))


def _rows_of_levels(head: nn.Module) -> List[Replacement]:
    """Heads that choose with ``filter_scores_and_topk``, level by level.

    What ``results`` hold before NMS goes through it with the boxes, and so
    does the number of a row.
    """
    selecting = next((name for name in ('predict_by_feat', SINGLE)
                      if calls(head, name, 'filter_scores_and_topk')), None)
    if selecting is None:
        return []
    post_process = next((name
                         for name in ('_bbox_mask_post_process', POST_PROCESS)
                         if calls(head, selecting, name)), None)
    if post_process is None:
        return []
    filter_scores = global_of(head, selecting, 'filter_scores_and_topk')
    is_sigmoid = getattr(head, 'use_sigmoid_cls', True)
    levels: List[Tensor] = []
    softmax: Dict[str, Tensor] = {}

    def filter_and_record(scores: Tensor, *args, **kwargs) -> tuple:
        found = filter_scores(scores, *args, **kwargs)
        # A softmax head leaves out the last column of what it computed.
        rows = scores if is_sigmoid else softmax['last']
        levels.append(rows[found[2]])
        return found

    select = with_function(
        head, selecting, filter_scores_and_topk=filter_and_record)

    def select_from_softmax(*args, **kwargs) -> InstanceData:
        with TensorCalls(
                softmax=lambda _, result: softmax.update(last=result)):
            return select(*args, **kwargs)

    own = getattr(head, post_process)

    def with_rows(results: InstanceData, *args, **kwargs) -> InstanceData:
        rows = torch.cat(levels)
        levels.clear()
        return _with_rows_of_kept(own, results, rows, *args, **kwargs)

    return [
        Replacement(head, selecting,
                    select if is_sigmoid else select_from_softmax),
        Replacement(head, post_process, with_rows)
    ]


def _with_rows_of_kept(process: Callable, results: InstanceData, rows: Tensor,
                       *args, **kwargs) -> InstanceData:
    """Let the number of a row go through NMS, which costs less than rows."""
    results.class_probs = torch.arange(len(rows), device=rows.device)
    results = process(results, *args, **kwargs)
    results.class_probs = rows[results.class_probs]
    return results


def _rows_of_paa(head: nn.Module) -> List[Replacement]:
    """NMS is given the products with predicted IoUs; voting comes after."""
    if not calls(head, POST_PROCESS, 'multiclass_nms'):
        return []
    multiclass_nms = global_of(head, POST_PROCESS, 'multiclass_nms')
    kept: List[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, *args, **kwargs) -> tuple:
        *found, index = multiclass_nms(
            boxes, scores, *args, return_inds=True, **kwargs)
        kept.append(_row_of(index, scores))
        return tuple(found)

    process = with_function(head, POST_PROCESS, multiclass_nms=nms)
    vote = head.score_voting

    def with_rows(results: InstanceData, *args, **kwargs) -> InstanceData:
        kept.clear()
        rows = results.scores
        results = process(results, *args, **kwargs)
        results.class_probs = rows[kept[0]]
        return results

    def vote_in_order(boxes: Tensor, labels: Tensor, *args) -> tuple:
        # It returns the detections class by class.
        kept[0] = kept[0][labels.sort(stable=True).indices]
        return vote(boxes, labels, *args)

    return [
        Replacement(head, POST_PROCESS, with_rows),
        Replacement(head, 'score_voting', vote_in_order)
    ]


def _rows_of_yolox(head: nn.Module) -> List[Replacement]:
    """It takes each cell's best class, and a mask of good enough cells."""
    if not calls(head, 'predict_by_feat', POST_PROCESS):
        return []
    predict, process = head.predict_by_feat, getattr(head, POST_PROCESS)
    last: Dict[str, Tensor] = {}
    listeners = dict(
        max=lambda args, _: last.update(rows=args[0]),
        ge=lambda _, result: last.update(mask=result),
        __ge__=lambda _, result: last.update(mask=result))

    def predict_by_feat(*args, **kwargs) -> InstanceList:
        with TensorCalls(**listeners):
            return predict(*args, **kwargs)

    def with_rows(results: InstanceData, *args, **kwargs) -> InstanceData:
        rows = last['rows'][last['mask']]
        return _with_rows_of_kept(process, results, rows, *args, **kwargs)

    return [
        Replacement(head, 'predict_by_feat', predict_by_feat),
        Replacement(head, POST_PROCESS, with_rows)
    ]


def _rows_of_yolact(head: nn.Module) -> List[Replacement]:
    """Its NMS chooses coefficients of masks too: rows go with them."""
    if not calls(head, POST_PROCESS, 'fast_nms'):
        return []
    fast_nms = global_of(head, POST_PROCESS, 'fast_nms')
    columns = head.num_classes + (not head.use_sigmoid_cls)
    rows: List[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, coefficients: Tensor, *args,
            **kwargs) -> tuple:
        both = torch.cat([coefficients, scores[:, :columns]], dim=1)
        *found, both = fast_nms(boxes, scores, both, *args, **kwargs)
        rows.append(both[:, -columns:])
        return (*found, both[:, :-columns])

    process = with_function(head, POST_PROCESS, fast_nms=nms)

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
