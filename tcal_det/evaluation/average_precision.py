"""COCO's mean average precision, from the arrays of this package."""
import contextlib
import io
import math
from typing import TYPE_CHECKING, Dict, List, Tuple, Union

import numpy as np

from .functional import Detections, GroundTruth

if TYPE_CHECKING:
    from pycocotools.coco import COCO

# Names of the figures, and the indices of COCOeval's IoU thresholds .5,
# .55, ..., .95 that each is the mean over.
_FIGURES = dict(mAP=slice(None), AP50=slice(0, 1), AP75=slice(5, 6))


def average_precision(
        ground_truth: GroundTruth, detections: Detections
) -> Tuple[Dict[str, float], List[Dict[str, float]]]:
    """Run pycocotools' COCOeval, for objects of any area and 100 detections.

    Objects are numbered anew from 1: COCOeval takes an object of
    annotation id 0 for not found.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes; may be
            empty, which ``COCO.loadRes`` does not allow.

    Returns:
        Tuple[dict, list[dict]]: 'mAP', 'AP50' and 'AP75' overall, and of
        each class; NaN where there are no objects.
    """
    # Slow to import, and not needed for the other figures.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt, coco_dt = (
            _as_coco(COCO(), part, ground_truth)
            for part in (ground_truth, detections))
        evaluator = COCOeval(coco_gt, coco_dt, 'bbox')
        params = evaluator.params
        params.maxDets = [100]
        # Its own range ends at boxes of 100,000 pixels a side, and larger
        # ones would count for nothing.
        params.areaRng, params.areaRngLbl = [[0, math.inf]], ['all']
        evaluator.evaluate()
        evaluator.accumulate()
    # (IoU thresholds, recalls, classes); -1 stands for undefined.
    precision = evaluator.eval['precision'][..., 0, 0]
    return _means(precision), [
        _means(precision[..., k]) for k in range(ground_truth.num_classes)
    ]


def _as_coco(coco: 'COCO', part: Union[Detections, GroundTruth],
             ground_truth: GroundTruth) -> 'COCO':
    """Fill a COCO object with the detections or with the objects."""
    is_truth = part is ground_truth
    coco.dataset = dict(
        images=[dict(id=i) for i in range(ground_truth.num_images)],
        categories=[dict(id=k) for k in range(ground_truth.num_classes)],
        annotations=[
            dict(
                id=number,
                image_id=image,
                category_id=category,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=int(ground_truth.iscrowd[number -
                                                 1]) if is_truth else 0)
            for number, (image, category, box) in enumerate(
                zip(part.image_index.tolist(), part.class_index.tolist(),
                    part.boxes.tolist()), 1)
        ])
    if not is_truth:
        for record, score in zip(coco.dataset['annotations'],
                                 part.scores.tolist()):
            record['score'] = score
    coco.createIndex()
    return coco


def _means(precision: np.ndarray) -> Dict[str, float]:
    figures = {}
    for name, thresholds in _FIGURES.items():
        values = precision[thresholds]
        values = values[values > -1]
        figures[name] = float(values.mean()) if len(values) else float('nan')
    return figures
