"""Scenes of a few images, and the same with images that really repeat."""
import warnings

import numpy as np

from tcal_det.evaluation.functional import (detections_from_coco,
                                            evaluate_detections,
                                            ground_truth_from_coco)


def image_scene(seed, num_images=9, equal_scores=False):
    """Annotations and results of three classes, two of them common.

    Crowds, images without objects, images without results, results of a
    class without objects and false positives of all kinds occur.

    Args:
        seed (int): Random seed of everything.
        num_images (int): Number of images.
        equal_scores (bool): Scores from a few values, also inside an image;
            else equal scores occur in different images only.
    """
    rng = np.random.default_rng(seed)
    images = [
        dict(id=int(i), file_name=f'{i}.jpg', width=200, height=200)
        for i in rng.permutation(50)[:num_images]
    ]
    categories = [dict(id=k, name=f'class {k}') for k in (4, 2, 9)]
    annotations, results = [], []
    for image in images:
        levels = rng.permutation(30) / 30
        for _ in range(rng.integers(0, 6)):
            corner, size = rng.uniform(50, 100, 2), rng.uniform(10, 40, 2)
            category = int(rng.choice([4, 2, 9], p=[.6, .3, .1]))
            annotations.append(
                dict(
                    image_id=image['id'],
                    category_id=category,
                    bbox=[*corner, *size],
                    iscrowd=int(rng.random() < .15)))
            for _ in range(rng.integers(0, 4)):
                spread = rng.choice([1, 4, 15])
                results.append(
                    dict(
                        image_id=image['id'],
                        category_id=category if rng.random() < .8 else 2,
                        bbox=[*(corner + rng.normal(0, spread, 2)), *size]))
        for _ in range(rng.integers(0, 4)):
            results.append(
                dict(
                    image_id=image['id'],
                    category_id=int(rng.choice([4, 2, 9])),
                    bbox=[*rng.uniform(50, 110, 2), 20., 15.]))
        of_image = [r for r in results if r['image_id'] == image['id']]
        for result, level in zip(of_image, levels):
            result['score'] = float(
                rng.choice([0., .3, .5, .9, 1.]) if equal_scores else level)
    return dict(
        images=images, categories=categories, annotations=annotations), results


def repeated(annotations, results, counts):
    """The data set in which images occur several times, copies adjacent.

    Args:
        annotations (dict): COCO annotations.
        results (list[dict]): COCO results.
        counts (ndarray): How often each image occurs, by ascending id.
    """
    ids = sorted(image['id'] for image in annotations['images'])
    copies = {
        one: [100 * one + number for number in range(int(count))]
        for one, count in zip(ids, counts)
    }

    def copied(records, key):
        return [
            dict(record, **{key: copy}) for record in records
            for copy in copies[record[key]]
        ]

    return dict(
        annotations,
        images=copied(annotations['images'], 'id'),
        annotations=copied(annotations['annotations'],
                           'image_id')), copied(results, 'image_id')


def arrays_of(annotations, results):
    """Ground truth and detections."""
    ground_truth = ground_truth_from_coco(annotations)
    return ground_truth, detections_from_coco(results, ground_truth)


def all_figures(annotations, results, **options):
    """Every figure of a data set, measured without any resampling."""
    ground_truth, detections = arrays_of(annotations, results)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return evaluate_detections(ground_truth, detections, **options).overall
