"""Which object each prediction of a set detects.

A detector with queries is to detect each object once. How well a box covers
an object is then no label: of two queries on one object one is right, and a
label for both would call every duplicate a hit.

Shapes: Q queries of an image; K classes; G objects.
"""
from typing import Tuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from torch import Tensor

# A detection is right from this IoU on, and belongs to an ignored region
# from this share of its area on.
LEAST_IOU = 0.5
LEAST_SHARE = 0.5


def claim_objects(boxes: Tensor, scores: Tensor, data_sample: DetDataSample,
                  num_classes: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Labels of queries by the rule of COCO's evaluation.

    For each class the queries, by falling score of that class, claim the
    object of the class with the highest IoU among those that no other has
    claimed, if it is at least 0.5. A query may claim an object of each of
    several classes; as it has one label, its label is the class of these with
    its highest score.

    Args:
        boxes (Tensor): Corners in the pixels of the network's input, shape
            (Q, 4).
        scores (Tensor): Probabilities of the classes, shape (Q, K).
        data_sample (DetDataSample): Of the image, with ``gt_instances``.
        num_classes (int): Number of classes K.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Label, K where nothing is claimed; IoU
        with the claimed object, else 0; weight, 0 for a query that claims
        nothing and lies in an ignored region, else 1. Shape (Q,) each.

    Reference: Lin et al., "Microsoft COCO", ECCV 2014; the matching of
    ``pycocotools.cocoeval``.
    """
    objects = data_sample.gt_instances
    labels = torch.full((len(boxes), ), num_classes, dtype=torch.long)
    quality = torch.zeros(len(boxes))
    weight = torch.ones(len(boxes))
    # One object after the other: a GPU would wait for each.
    scores, places = scores.float().cpu(), boxes.float().cpu()
    targets = get_box_tensor(objects.bboxes).float().cpu()
    classes = objects.labels.cpu()
    for label in classes.unique().tolist():
        free = bbox_overlaps(places, targets[classes == label])
        order = scores[:, label].sort(descending=True, stable=True).indices
        covers_any = (free >= LEAST_IOU).any(dim=1)
        for query in order[covers_any[order]].tolist():
            overlap, column = free[query].max(dim=0)
            if overlap < LEAST_IOU:
                continue
            free[:, column] = -1
            earlier = labels[query]
            if (earlier == num_classes
                    or scores[query, label] > scores[query, earlier]):
                labels[query], quality[query] = label, overlap
    ignored = data_sample.get('ignored_instances')
    if ignored is not None and len(ignored):
        share = bbox_overlaps(
            places, get_box_tensor(ignored.bboxes).float().cpu(),
            mode='iof').amax(dim=1)
        weight[(share >= LEAST_SHARE) & (labels == num_classes)] = 0
    device = boxes.device
    return labels.to(device), quality.to(device), weight.to(device)
