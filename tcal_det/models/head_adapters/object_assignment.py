"""Assignment of objects to the predictions of a detector with queries.

A detector with queries should detect each object once. The overlap of a box
with an object is therefore not a sufficient label: if two queries cover one
object, only one of them is right, and a label for both would count every
duplicate as correct.

Shapes: Q queries of an image; K classes; G objects.
"""
from typing import Tuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from torch import Tensor

# Least IoU of a correct detection, and least share of its area that lies in
# an ignored region for the detection to be ignored.
LEAST_IOU = 0.5
LEAST_SHARE = 0.5


def assign_objects(boxes: Tensor, scores: Tensor, data_sample: DetDataSample,
                   num_classes: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Label queries by the matching rule of COCO's evaluation.

    For each class, the queries are matched in descending order of their
    score for that class. A query is matched with the unmatched object of the
    class that has the highest IoU with it, if this IoU is at least 0.5. A
    query may be matched with objects of several classes. Its label is then
    the class among them with its highest score.

    Args:
        boxes (Tensor): Box corners in pixels of the network's input, shape
            (Q, 4).
        scores (Tensor): Probabilities of the classes, shape (Q, K).
        data_sample (DetDataSample): Data sample of the image, with
            ``gt_instances``.
        num_classes (int): Number of classes K.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Labels, K for an unmatched query; IoU
        with the matched object, 0 for an unmatched query; weights, 0 for an
        unmatched query in an ignored region and 1 otherwise. Shape (Q,)
        each.

    Reference:
        Lin et al., "Microsoft COCO", ECCV 2014; the matching of
        ``pycocotools.cocoeval``.
    """
    objects = data_sample.gt_instances
    labels = torch.full((len(boxes), ), num_classes, dtype=torch.long)
    quality = torch.zeros(len(boxes))
    weight = torch.ones(len(boxes))
    # On the CPU: the loop below handles one query at a time, and a GPU would
    # have to synchronise in each iteration.
    scores, corners = scores.float().cpu(), boxes.float().cpu()
    targets = get_box_tensor(objects.bboxes).float().cpu()
    classes = objects.labels.cpu()
    for label in classes.unique().tolist():
        unmatched_iou = bbox_overlaps(corners, targets[classes == label])
        order = scores[:, label].sort(descending=True, stable=True).indices
        overlaps_any = (unmatched_iou >= LEAST_IOU).any(dim=1)
        for query in order[overlaps_any[order]].tolist():
            overlap, column = unmatched_iou[query].max(dim=0)
            if overlap < LEAST_IOU:
                continue
            unmatched_iou[:, column] = -1
            previous = labels[query]
            if (previous == num_classes
                    or scores[query, label] > scores[query, previous]):
                labels[query], quality[query] = label, overlap
    ignored = data_sample.get('ignored_instances')
    if ignored is not None and len(ignored):
        share = bbox_overlaps(
            corners, get_box_tensor(ignored.bboxes).float().cpu(),
            mode='iof').amax(dim=1)
        weight[(share >= LEAST_SHARE) & (labels == num_classes)] = 0
    device = boxes.device
    return labels.to(device), quality.to(device), weight.to(device)
