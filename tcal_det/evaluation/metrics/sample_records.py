"""Conversion of mmdet's data samples to small records and COCO arrays.

Everything here follows CocoMetric, so that both metrics see the same boxes,
scores, images and categories.
"""
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from mmengine.fileio import get_local_path

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from ..functional import (Detections, GroundTruth, detections_from_arrays,
                          ground_truth_from_coco)
from ..functional.record_ids import is_id
from ..predicted_instances import predicted_instances
from ..results_file import naming_file, read_json

Record = Dict[str, Any]


def read_needed_annotations(ann_file: str,
                            backend_args: Optional[dict]) -> Record:
    """Read and check an annotation file, and keep only the needed fields.

    Args:
        ann_file (str): Path to the COCO annotation file.
        backend_args (dict, optional): Arguments of the file backend.

    Returns:
        Record: Content without the masks, which are its largest part.
    """
    with get_local_path(ann_file, backend_args=backend_args) as path:
        content = read_json(path, '`ann_file`')
    with naming_file(ann_file):
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
    """Extract the needed fields of one image, on the CPU.

    Args:
        sample (Record): Data sample as the dict that metrics receive.
        with_instances (bool): Whether to keep the ground truth as well.

    Returns:
        Record: Dict with ``img_id``, ``boxes`` (x, y, width, height; shape
        (D, 4)), ``scores`` and ``labels`` (shape (D,)).

    Raises:
        InvalidTypeError: If the image id or the predictions have the wrong
            type.
        InvalidValueError: If the predictions are wrong, or the sample has no
            ground truth to keep.
    """
    image_id = sample['img_id']
    if not is_id(image_id):
        raise InvalidTypeError(
            '`img_id` of a data sample must be a whole number or a text, but '
            f'got {shortened(image_id)}')
    found = predicted_instances(
        sample.get('pred_instances'), f'predictions of image {image_id!r}')
    record = dict(img_id=image_id, **found._asdict())
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
    """Create COCO annotations from the instances of the data samples.

    Args:
        records (list[Record]): Records from :func:`sample_record`, with
            instances.
        classes (Sequence[str]): Class names by label; the label is the
            category id.
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
        records (list[Record]): Records from :func:`sample_record`.
        category_ids (Sequence[Any]): Category id of each label.
        ground_truth (GroundTruth): Images and classes that the detections
            refer to.

    Raises:
        InvalidValueError: If a label has no category, or
            :func:`detections_from_arrays` raises it.
    """
    if not records:
        return detections_from_arrays([], [], [], [], ground_truth)
    for record in records:
        wrong = record['labels'] >= len(category_ids)
        if wrong.any():
            raise InvalidValueError(
                f'predictions of image {record["img_id"]!r}: labels must be '
                f'below {len(category_ids)}, the number of categories of '
                '`ann_file` that are among the classes of the data set, but '
                f'got {record["labels"][wrong][0]}: set `metainfo.classes` '
                'of the data set to the categories')
    labels, boxes, scores = (
        np.concatenate([record[key] for record in records])
        for key in ('labels', 'boxes', 'scores'))
    image_ids = [
        record['img_id'] for record in records for _ in record['labels']
    ]
    return detections_from_arrays(image_ids,
                                  [category_ids[label] for label in labels],
                                  boxes, scores, ground_truth)
