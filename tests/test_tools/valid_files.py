"""What the evaluation commands should take, decided from plain values.

Written without the package: a second opinion on every file of the fuzz.
"""
import datetime
import json
import math

import numpy as np
import torch

# Neither tensors nor arrays, numbers, texts or containers.
FORBIDDEN_IN_PICKLES = (datetime.date, type(print), complex)


def read(path):
    """Content of a JSON file; None if it holds none."""
    try:
        with open(path, 'rb') as file:
            return json.loads(file.read().decode('utf-8'))
    except (OSError, ValueError, RecursionError):
        return None


def is_id(value):
    if isinstance(value, (float, np.floating)):
        return math.isfinite(value) and value == int(value)
    return isinstance(value,
                      (int, np.integer, str)) and type(value) is not bool


def is_number(value):
    # Comparisons with whole numbers are exact, however large they are.
    return type(value) in (int, float) and -1e308 <= value <= 1e308


def is_side(value):
    return value == 0 or 1e-100 <= value <= 1e9


def is_box(value):
    return (type(value) is list and len(value) == 4
            and all(map(is_number, value))
            and all(abs(one) <= 1e9 for one in value) and is_side(value[2])
            and is_side(value[3]))


def are_ids(records):
    """Whether the records have ids that differ and are of one kind."""
    if type(records) is not list or not all(
            type(one) is dict and 'id' in one and is_id(one['id'])
            for one in records):
        return False
    ids = [one['id'] for one in records]
    return len(set(ids)) == len(ids) and len({type(one) is str
                                              for one in ids}) < 2


def is_placed(record, annotations):
    """Whether a record names an image and a category, and has a box."""
    return type(record) is dict and is_box(record.get('bbox')) and all(
        is_id(record.get(field)) and any(record[field] == one['id']
                                         for one in annotations[key])
        for field, key in (('image_id', 'images'),
                           ('category_id', 'categories')))


def are_annotations(content):
    return (type(content) is dict and are_ids(content.get('images'))
            and are_ids(content.get('categories'))
            and type(content.get('annotations')) is list and all(
                is_placed(one, content) and type(one.get('iscrowd', 0)) in
                (bool, int, float) and one.get('iscrowd', 0) in (0, 1)
                for one in content['annotations']))


def are_results(content, annotations):
    return type(content) is list and all(
        is_placed(one, annotations) and is_number(one.get('score'))
        and 0 <= one['score'] <= 1 for one in content)


def are_samples(content, annotations):
    if type(content) is not list or _is_forbidden(content):
        return False
    if not all(
            type(one) is dict and is_id(one.get('img_id')) and is_prediction(
                one.get('pred_instances'), len(annotations['categories']))
            for one in content):
        return False
    ids = [one['img_id'] for one in content]
    known = {one['id'] for one in annotations['images']}
    return len(set(ids)) == len(ids) and set(ids) <= known


def is_prediction(pred, num_classes):
    if type(pred) is not dict or not {'bboxes', 'scores', 'labels'
                                      } <= set(pred):
        return False
    boxes, scores, labels = (
        _as_lists(pred[key]) for key in ('bboxes', 'scores', 'labels'))
    if any(type(part) is not list for part in (boxes, scores, labels)):
        return False
    return (len(boxes) == len(scores) == len(labels)
            and all(is_number(one) and 0 <= one <= 1 for one in scores)
            and all(
                type(one) is int and 0 <= one < num_classes
                for one in labels) and all(map(_is_corner_box, boxes)))


def _is_corner_box(row):
    row = _as_lists(row) if isinstance(row, (list, tuple)) else None
    return (type(row) is list and len(row) == 4 and all(
        is_number(one) and abs(one) <= 1e9 for one in row) and all(
            float(high) - float(low) == 0 or float(high) - float(low) >= 1e-100
            for low, high in (row[::2], row[1::2])))


def _as_lists(value):
    if isinstance(value, torch.Tensor):
        return None if value.is_sparse else value.tolist()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [
            one.item() if isinstance(one, np.generic) else one for one in value
        ]
    return value


def _is_forbidden(tree):
    if isinstance(tree, dict):
        return any(map(_is_forbidden, tree.values()))
    if isinstance(tree, (list, tuple)):
        return any(map(_is_forbidden, tree))
    if isinstance(tree, torch.Tensor):
        return tree.is_sparse
    return isinstance(tree, FORBIDDEN_IN_PICKLES)
