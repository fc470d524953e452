"""Generate a set of the size and shape of COCO's from a seed.

The set has long-tailed classes, objects of all sizes, and results that are
correct, shifted, duplicated or wrong.
"""
from typing import Any, Dict, List, NamedTuple

import numpy as np

_IMAGE_SIZE = (640, 480)
_OBJECTS_PER_IMAGE = 7.2
_CROWD_SHARE = 0.01


class SetSize(NamedTuple):
    """Size and seed of a generated set.

    Attributes:
        images (int): Number of images.
        seed (int): Random seed of the set.
        classes (int): Number of classes.
        results_per_image (int): Number of results per image.
    """
    images: int
    seed: int
    classes: int
    results_per_image: int


def make_arrays(size_of_set: SetSize) -> Dict[str, np.ndarray]:
    """Generate objects and results as columns, the same for equal sizes."""
    num_images, seed, num_classes, results_per_image = size_of_set
    rng = np.random.default_rng(seed)
    # Long tail: the first class has a quarter of all objects, like 'person'.
    share = 1 / np.arange(1, num_classes + 1)**1.1
    share /= share.sum()
    num_objects = rng.poisson(_OBJECTS_PER_IMAGE, num_images)
    image = np.repeat(np.arange(num_images), num_objects)
    # An image shows few classes: two or three, repeated.
    image_classes = rng.choice(num_classes, size=(num_images, 3), p=share)
    label = image_classes[image, rng.integers(0, 3, len(image))]
    boxes = _random_boxes(rng, len(image))

    num_results = num_images * results_per_image
    # 45 % of the results lie near an object, the others anywhere.
    is_near = rng.random(num_results) < 0.45
    if len(image) == 0:
        is_near[:] = False
    source = rng.integers(0, max(len(image), 1), num_results)
    result_boxes = _random_boxes(rng, num_results)
    result_image = rng.integers(0, num_images, num_results)
    result_label = rng.choice(num_classes, size=num_results, p=share)
    near = source[is_near]
    size = np.tile(boxes[near, 2:], 2)
    shift = rng.normal(0, 1, (len(near), 4)) * rng.choice([0.03, 0.1, 0.3],
                                                          size=(len(near), 1))
    result_boxes[is_near] = boxes[near] + shift * size
    result_boxes[:, 2:] = np.maximum(result_boxes[:, 2:], 1.0)
    result_image[is_near] = image[near]
    keeps_label = rng.random(len(near)) < 0.6
    result_label[is_near] = np.where(keeps_label, label[near],
                                     result_label[is_near])
    right = np.zeros(num_results, dtype=bool)
    right[is_near] = keeps_label & (np.abs(shift).max(axis=1) < 0.2)
    score = np.where(right, rng.beta(2, 2, num_results),
                     rng.beta(1, 12, num_results))
    by_image = np.argsort(result_image, kind='stable')
    return dict(
        image=image,
        label=label,
        boxes=boxes,
        iscrowd=rng.random(len(image)) < _CROWD_SHARE,
        result_image=result_image[by_image],
        result_label=result_label[by_image],
        result_boxes=np.round(result_boxes[by_image], 2),
        score=np.round(score[by_image], 4))


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    image_size = np.array(_IMAGE_SIZE, dtype=np.float64)
    size = np.minimum(np.exp(rng.normal(4.2, 0.9, (count, 2))), image_size)
    corner = rng.random((count, 2)) * (image_size - size)
    return np.round(np.concatenate((corner, size), axis=1), 2)


def make_annotations(arrays: Dict[str, np.ndarray],
                     size_of_set: SetSize) -> Dict[str, List[Dict[str, Any]]]:
    """Return the content of an annotation file."""
    width, height = _IMAGE_SIZE
    columns = zip(arrays['image'].tolist(), arrays['label'].tolist(),
                  arrays['boxes'].tolist(), arrays['iscrowd'].tolist())
    return dict(
        images=[
            dict(id=i + 1, width=width, height=height)
            for i in range(size_of_set.images)
        ],
        categories=[
            dict(id=k + 1, name=f'class {k + 1}')
            for k in range(size_of_set.classes)
        ],
        annotations=[
            dict(
                id=number + 1,
                image_id=image + 1,
                category_id=label + 1,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=int(iscrowd))
            for number, (image, label, box, iscrowd) in enumerate(columns)
        ])


def make_results(arrays: Dict[str, np.ndarray]) -> List[Dict[str, Any]]:
    """Return the content of a results file."""
    columns = zip(arrays['result_image'].tolist(),
                  arrays['result_label'].tolist(),
                  arrays['result_boxes'].tolist(), arrays['score'].tolist())
    return [
        dict(image_id=image + 1, category_id=label + 1, bbox=box, score=score)
        for image, label, box, score in columns
    ]
