"""Random scenes full of ties and crowds, and what pycocotools says of them."""
import contextlib
import copy
import io
from typing import Any, Dict, List, Tuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tcal_det.evaluation.functional import (DROPPED, FALSE_POSITIVE, IGNORED,
                                            TRUE_POSITIVE)

Scene = Tuple[Dict[str, List[Dict[str, Any]]], List[Dict[str, Any]]]


def random_scene(seed: int,
                 num_images: int = 8,
                 max_objects: int = 5,
                 max_results: int = 12,
                 fractions: bool = False) -> Scene:
    """Annotations and results of a few images and three classes.

    Boxes lie on a coarse grid and scores take few values, so that equal
    IoUs, IoUs equal to the threshold and equal scores are common. Images
    without objects, without results, and classes without either occur.
    """
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(50)[:num_images].tolist()
    category_ids = rng.permutation([7, 3, 90])[:rng.integers(1, 4)].tolist()
    images = [dict(id=i, width=40, height=30) for i in image_ids]
    categories = [dict(id=k, name=f'c{k}') for k in category_ids]

    def box() -> List[float]:
        corner = rng.integers(0, 8, 2)
        size = rng.integers(0, 7, 2)
        values = np.concatenate((corner, size)).astype(float)
        if fractions:
            values += rng.random(4).round(2)
        return values.tolist()

    annotations, results = [], []
    for image_id in image_ids:
        for category_id in category_ids:
            for _ in range(rng.integers(0, max_objects + 1)):
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=image_id,
                        category_id=category_id,
                        bbox=box(),
                        area=1.0,
                        iscrowd=int(rng.random() < 0.2)))
            num_results = rng.integers(0, max_results + 1)
            scores = rng.choice([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
                                num_results)
            results += [
                dict(
                    image_id=image_id,
                    category_id=category_id,
                    bbox=box(),
                    score=float(score)) for score in scores
            ]
    order = rng.permutation(len(results))
    results = [results[i] for i in order]
    order = rng.permutation(len(annotations))
    return dict(
        images=images,
        categories=categories,
        annotations=[annotations[i] for i in order]), results


def cocoeval_flags(scene: Scene,
                   iou_thr: float,
                   max_dets: int = 100) -> Tuple[np.ndarray, np.ndarray]:
    """Status and matched annotation id (-1: none) of each result."""
    annotations, results = copy.deepcopy(scene)
    status = np.full(len(results), DROPPED)
    matched = np.full(len(results), -1)
    if not results:
        return status, matched
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = annotations
        ground_truth.createIndex()
        evaluator = COCOeval(ground_truth, ground_truth.loadRes(results),
                             'bbox')
        evaluator.params.iouThrs = np.array([iou_thr])
        evaluator.params.areaRng = [[0, 1e10]]
        evaluator.params.areaRngLbl = ['all']
        evaluator.params.maxDets = [max_dets]
        evaluator.evaluate()
    for image in evaluator.evalImgs:
        if image is None:
            continue
        rows = np.array(image['dtIds'], dtype=int) - 1  # loadRes counts from 1
        annotation_id = image['dtMatches'][0].astype(int)
        status[rows] = np.where(
            image['dtIgnore'][0], IGNORED,
            np.where(annotation_id > 0, TRUE_POSITIVE, FALSE_POSITIVE))
        matched[rows] = np.where(annotation_id > 0, annotation_id, -1)
    return status, matched
