"""From mmdet's data samples to small records, and on to COCO's terms.

Everything here follows CocoMetric, so that both metrics see the same boxes,
scores, images and categories.
"""
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from mmengine.fileio import get_local_path
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..functional import (Detections, GroundTruth, detections_from_arrays,
                          ground_truth_from_coco)
from ..results_file import read_json

Record = Dict[str, Any]


def read_needed_annotations(ann_file: str,
                            backend_args: Optional[dict]) -> Record:
    """Read and check an annotation file, and keep what the figures need.

    Args:
        ann_file (str): COCO annotations.
        backend_args (dict, optional): Of the file backend.

    Returns:
        Record: The content without the masks, which are most of it.
    """
    with get_local_path(ann_file, backend_args=backend_args) as path:
        content = read_json(path, '`ann_file`')
    ground_truth_from_coco(content)
    kept = ('image_id', 'category_id', 'bbox', 'iscrowd')
    return dict(
        images=content['images'],
        categories=content['categories'],
        annotations=[{
            key: annotation[key]
            for key in kept if key in annotation
        } for annotation in content['annotations']])


def sample_record(sample: Record, with_instances: bool) -> Record:
    """What is needed of one image, on the CPU.

    Args:
        sample (Record): A data sample as a dict, as metrics get it.
        with_instances (bool): Whether to keep its ground truth too.

    Returns:
        Record: ``img_id``, ``boxes`` (x, y, width, height; shape (D, 4)),
        ``scores`` and ``labels`` (shape (D,)).

    Raises:
        InvalidValueError: If the sample has no ground truth to keep.
    """
    pred = sample['pred_instances']
    boxes = _as_float64(pred['bboxes'])
    record = dict(
        img_id=sample['img_id'],
        # Subtracted in float64 what may have been float32, like CocoMetric.
        boxes=np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]),
                             axis=1),
        scores=_as_float64(pred['scores']),
        labels=pred['labels'].cpu().numpy())
    if with_instances:
        if 'instances' not in sample:
            raise InvalidValueError(
                '`ann_file` must be given, or `instances` must be among the '
                "`meta_keys` of the test pipeline's PackDetInputs, but "
                'neither is')
        height, width = sample['ori_shape'][:2]
        record.update(
            width=width, height=height, instances=sample['instances'])
    return record


def annotations_of_records(records: List[Record],
                           classes: Sequence[str]) -> Record:
    """COCO annotations of the data set's own instances.

    Args:
        records (list[Record]): Of :func:`sample_record`, with instances.
        classes (Sequence[str]): Names by label, which is the category id.
    """
    annotations = []
    for record in records:
        for instance in record['instances']:
            x1, y1, x2, y2 = instance['bbox']
            annotations.append(
                dict(
                    image_id=record['img_id'],
                    category_id=int(instance['bbox_label']),
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    iscrowd=instance.get('ignore_flag', 0)))
    return dict(
        images=[
            dict(
                id=record['img_id'],
                width=record['width'],
                height=record['height']) for record in records
        ],
        categories=[
            dict(id=label, name=name) for label, name in enumerate(classes)
        ],
        annotations=annotations)


def detections_of_records(records: List[Record], category_ids: Sequence[Any],
                          ground_truth: GroundTruth) -> Detections:
    """Check and join the detections of all images.

    Args:
        records (list[Record]): Of :func:`sample_record`.
        category_ids (Sequence[Any]): The category of each label.
        ground_truth (GroundTruth): Whose images and classes they refer to.

    Raises:
        InvalidValueError: If a label has no category, or as
            :func:`detections_from_arrays`.
    """
    if not records:
        return detections_from_arrays([], [], [], [], ground_truth)
    labels, boxes, scores = (
        np.concatenate([record[key] for record in records])
        for key in ('labels', 'boxes', 'scores'))
    if len(labels) and labels.max() >= len(category_ids):
        raise InvalidValueError(
            f'labels must be below {len(category_ids)}, the number of '
            'categories of `ann_file` that are among the classes of the data '
            f'set, but got {labels.max()}: set `metainfo.classes` of the '
            'data set to the categories')
    image_ids = np.repeat([record['img_id'] for record in records],
                          [len(record['labels']) for record in records])
    return detections_from_arrays(image_ids,
                                  [category_ids[label] for label in labels],
                                  boxes, scores, ground_truth)


def _as_float64(tensor: Tensor) -> np.ndarray:
    # As the float that a results file would hold.
    return tensor.detach().cpu().double().numpy()
