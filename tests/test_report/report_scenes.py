"""Small data sets for the tests of the report."""
import json
import os.path as osp

from tcal_det.evaluation.functional import (detections_from_coco,
                                            ground_truth_from_coco)

GOLDEN = osp.join(
    osp.dirname(osp.dirname(osp.abspath(__file__))), 'data', 'golden')
HOSTILE = '<script>alert(1)</script>'
HOSTILE_JSON = '</script><!-- & "quoted" \'name\''


def make_scene(objects, detections, names=('a', 'b'), images=None):
    """Arrays of a scene.

    Args:
        objects (list[tuple]): Image id, class number, box.
        detections (list[tuple]): Image id, class number, box, score.
        names (tuple[str]): Names of the classes.
        images (list[dict], optional): Records of images. Defaults to those
            that are named, of 100 x 100 pixels.
    """
    if images is None:
        ids = sorted({one[0] for one in (*objects, *detections)})
        images = [dict(id=i, width=100, height=100) for i in ids]
    ground_truth = ground_truth_from_coco(
        dict(
            images=images,
            categories=[dict(id=k, name=name) for k, name in enumerate(names)],
            annotations=[
                dict(image_id=i, category_id=k, bbox=list(box))
                for i, k, box in objects
            ]))
    return ground_truth, detections_from_coco([
        dict(image_id=i, category_id=k, bbox=list(box), score=score)
        for i, k, box, score in detections
    ], ground_truth)


def golden_scene(name='det_small'):
    """The arrays of a scene of tests/data/golden."""
    contents = []
    for suffix in ('gt', 'dt'):
        path = osp.join(GOLDEN, f'{name}_{suffix}.json')
        with open(path, encoding='utf-8') as file:
            contents.append(json.load(file))
    ground_truth = ground_truth_from_coco(contents[0])
    return ground_truth, detections_from_coco(contents[1], ground_truth)


def many_classes(num_images=12):
    """12 classes, two of them with hostile names; deterministic.

    Class k has k + 1 objects in each image, in a row of their own; the
    detection of object j scores above one half and is a miss where
    (image + k + j) % 3 == 0.
    """
    names = (HOSTILE, HOSTILE_JSON, *(f'class {k}' for k in range(2, 12)))
    objects, detections = [], []
    for image in range(num_images):
        for k in range(12):
            for j in range(k + 1):
                box = (10 + 20 * j, 10 + 20 * k, 12, 12)
                objects.append((image, k, box))
                shift = 9 if (image + k + j) % 3 == 0 else 1
                score = 0.5 + ((7 * image + 3 * k + j) % 40) / 100
                detections.append(
                    (image, k, (box[0] + shift, *box[1:]), score))
    images = [
        dict(id=i, width=260, height=260, file_name=f'image <{i}>.jpg')
        for i in range(num_images)
    ]
    return make_scene(objects, detections, names, images)
