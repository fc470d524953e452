"""The data of the study: scenes of digits, and BCCD in five folds.

Made by the runs that need them.
"""
import json
import os
import os.path as osp
from typing import List

import numpy as np

from tcal_det.errors import MissingFileError
from tcal_det.fileio import write_json_atomically
from tools.dataset_converters.digit_scenes import write_digit_scenes

DIGITS = 'data/study_digits'
BCCD = 'data/bccd'
BACKBONE = 'data/backbones/mobilenetv2.pth'
FOLDS = 'data/study_bccd'
NUM_FOLDS = 5
FOLD_SEED = 0
# Parts of a fold, as offsets from its number: of the five equal parts of the
# data, a student is trained on one and a teacher on two others.
PARTS = dict(test=(0, ), val=(1, ), student=(2, ), teacher=(3, 4))


def make_digits() -> None:
    """Write the scenes, if they are not there."""
    if not osp.isdir(DIGITS):
        write_digit_scenes(
            DIGITS, dict(train=2000, val=300, test=2600), size=128)


def make_folds() -> None:
    """Write ``fold<f>/{test,val,student,teacher}.json``.

    Raises:
        MissingFileError: If BCCD or the weights of the backbone do not exist.
    """
    if not osp.isfile(BACKBONE):
        raise MissingFileError(
            f'the runs on BCCD need {BACKBONE}, which does not exist: make it '
            'with `python -m benchmarks.study.backbone`')
    splits = [
        osp.join(BCCD, 'annotations', f'{split}.json')
        for split in ('train', 'val', 'test')
    ]
    missing = [path for path in splits if not osp.isfile(path)]
    if missing:
        raise MissingFileError(
            f'the runs on BCCD need {missing[0]}, which does not exist: make '
            'it with tools/dataset_converters/bccd_to_coco.py, see '
            'docs/how_to/coco.md')
    contents = []
    for path in splits:
        with open(path, encoding='utf-8') as file:
            contents.append(json.load(file))
    for fold, parts in enumerate(split_in_folds(contents)):
        folder = osp.join(FOLDS, f'fold{fold}')
        os.makedirs(folder, exist_ok=True)
        for name, content in parts.items():
            write_json_atomically(osp.join(folder, f'{name}.json'), content)


def split_in_folds(contents: List[dict]) -> List[dict]:
    """Cut a data set into five parts and give them their roles in each fold.

    Args:
        contents (list[dict]): COCO annotations of the same categories, whose
            image ids may overlap.

    Returns:
        list[dict]: For each fold, COCO annotations by the names of
        ``PARTS``. Ids are new.
    """
    images, objects = [], []
    for content in contents:
        of_image = {}
        for annotation in content['annotations']:
            of_image.setdefault(annotation['image_id'], []).append(annotation)
        for image in content['images']:
            images.append(image)
            objects.append(of_image.get(image['id'], []))
    order = np.random.default_rng(FOLD_SEED).permutation(len(images))
    parts = np.array_split(order, NUM_FOLDS)
    folds = []
    for fold in range(NUM_FOLDS):
        roles = {}
        for name, offsets in PARTS.items():
            members = np.sort(
                np.concatenate([
                    parts[(fold + offset) % NUM_FOLDS] for offset in offsets
                ]))
            roles[name] = _annotations(members, images, objects,
                                       contents[0]['categories'])
        folds.append(roles)
    return folds


def _annotations(members: np.ndarray, images: List[dict],
                 objects: List[List[dict]], categories: List[dict]) -> dict:
    fold_images, fold_objects = [], []
    for image_id in members.tolist():
        fold_images.append(dict(images[image_id], id=image_id))
        fold_objects += [
            dict(annotation, image_id=image_id)
            for annotation in objects[image_id]
        ]
    return dict(
        images=fold_images,
        annotations=[
            dict(annotation, id=number)
            for number, annotation in enumerate(fold_objects, 1)
        ],
        categories=categories)
