"""Scenes of real handwritten digits, as a small COCO data set.

The 1797 digits of scikit-learn (8x8 pixels, ten classes that people confuse,
too) are coloured, rotated, scaled and placed on textured backgrounds. The
digits of train, val and test scenes are disjoint, so a detector cannot
memorise them.
"""
import json
import os
import os.path as osp
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from mmengine.utils import ProgressBar

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import new_folder

CLASSES = tuple(str(digit) for digit in range(10))
# Share of the digits in each split.
DIGIT_SHARES = (('train', 0.6), ('val', 0.15), ('test', 0.25))
EMPTY_SHARE = 0.03
# A new digit is left out of the scene if less than this share of another digit
# would remain visible.
MIN_VISIBLE_SHARE = 0.5
INK_THRESHOLD = 0.35
SMALLEST_SIZE, LARGEST_SIZE = 64, 4096
BAR_STEP = 25


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Background of smooth coloured spots, float32, shape (H, W, 3)."""
    canvas = np.zeros((size, size, 3), np.float32)
    for cells, strength in ((3, 45), (8, 25), (24, 15)):
        blotches = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        canvas += strength * cv2.resize(
            blotches, (size, size), interpolation=cv2.INTER_CUBIC)
    return canvas + rng.uniform(60, 190, 3).astype(np.float32)


def digit_mask(rng: np.random.Generator, digit: np.ndarray,
               size: int) -> np.ndarray:
    """Scale and rotate the ink of a digit at random.

    Args:
        rng (np.random.Generator): Random number generator of the scene.
        digit (ndarray): Digit, in [0, 16], shape (8, 8).
        size (int): Side of the square scene in pixels.

    Returns:
        ndarray: Share of ink in each pixel, float32, shape (h, w), without
        margin.
    """
    side = int(rng.uniform(0.16, 0.36) * size)
    margin = side // 4
    ink = cv2.resize(
        digit.astype(np.float32) / 16, (side, side),
        interpolation=cv2.INTER_CUBIC)
    ink = cv2.copyMakeBorder(ink, margin, margin, margin, margin,
                             cv2.BORDER_CONSTANT)
    centre = (ink.shape[1] / 2, ink.shape[0] / 2)
    turn = cv2.getRotationMatrix2D(centre, rng.uniform(-25, 25), 1)
    ink = np.clip(cv2.warpAffine(ink, turn, ink.shape[::-1]), 0, 1)
    rows = np.flatnonzero((ink > INK_THRESHOLD).any(axis=1))
    columns = np.flatnonzero((ink > INK_THRESHOLD).any(axis=0))
    return ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def compose_scene(
    rng: np.random.Generator,
    digits: np.ndarray,
    labels: np.ndarray,
    size: int,
    num_digits: int,
) -> Tuple[np.ndarray, List[Tuple[int, List[int]]]]:
    """Place random digits on a textured background.

    Args:
        rng (np.random.Generator): Random number generator of the scene.
        digits (ndarray): Digits to draw from, in [0, 16], shape (D, 8, 8).
        labels (ndarray): Classes of the digits, shape (D,).
        size (int): Side of the square scene in pixels.
        num_digits (int): Number of digits to place. A digit that would hide
            too much of another one is left out.

    Returns:
        tuple[ndarray, list[tuple[int, list[int]]]]: Image, uint8, BGR, shape
        (size, size, 3), and class and box [x, y, w, h] in pixels of each
        digit.
    """
    image = _texture(rng, size)
    owner = np.full((size, size), -1)
    objects, ink_areas = [], []
    for _ in range(num_digits):
        pick = rng.integers(len(digits))
        ink = digit_mask(rng, digits[pick], size)
        height, width = ink.shape
        x = int(rng.integers(0, size - width + 1))
        y = int(rng.integers(0, size - height + 1))
        window = np.s_[y:y + height, x:x + width]
        hides = (ink > INK_THRESHOLD)
        left = owner.copy()
        left[window][hides] = len(objects)
        visible = np.bincount(left[left >= 0], minlength=len(objects) + 1)
        if any(seen < MIN_VISIBLE_SHARE * area
               for seen, area in zip(visible, ink_areas)):
            continue
        owner = left
        local = image[window].mean(axis=(0, 1))
        # The ink is brighter or darker than the background below it.
        shift = rng.uniform(50, 110) * rng.choice((-1, 1))
        colour = np.clip(local + shift + rng.uniform(-40, 40, 3), 0, 255)
        alpha = (ink * rng.uniform(0.75, 1))[..., None]
        image[window] = image[window] * (1 - alpha) + colour * alpha
        objects.append((int(labels[pick]), [x, y, width, height]))
        ink_areas.append(int(hides.sum()))
    image += rng.normal(0, rng.uniform(2, 10), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), objects


def split_digits(seed: int) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Digits that each split may draw from, none in two of them.

    Args:
        seed (int): Random seed of the partition, >= 0.

    Returns:
        dict[str, tuple]: For 'train', 'val' and 'test' the digits, 0..16,
        shape (D, 8, 8), and their classes, shape (D,).

    Raises:
        InvalidValueError: If scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InvalidValueError(
            'the digits need scikit-learn, which is not installed: pip '
            'install scikit-learn') from None
    bundle = load_digits()
    order = np.random.default_rng(seed).permutation(len(bundle.target))
    splits, begin = {}, 0
    for name, share in DIGIT_SHARES:
        end = begin + int(share * len(order))
        chosen = order[begin:end]
        splits[name] = bundle.images[chosen], bundle.target[chosen]
        begin = end
    return splits


def write_digit_scenes(out: str,
                       num_scenes: Dict[str, int],
                       size: int = 160,
                       digits_per_scene: Tuple[int, int] = (2, 7),
                       seed: int = 0,
                       show_progress: bool = True,
                       classes: Sequence[str] = CLASSES) -> None:
    """Write ``out/{train,val,test}/*.jpg`` and ``out/annotations/*.json``.

    The folder gets its name only when it is complete. Scene i of a split does
    not depend on the number of scenes.

    Args:
        out (str): Output folder, which must not exist.
        num_scenes (dict[str, int]): Number of scenes of 'train', 'val' and
            'test'.
        size (int): Side of a scene in pixels, in [64, 4096]. Defaults to
            160.
        digits_per_scene (tuple[int, int]): Smallest and largest number of
            digits in a scene. Defaults to (2, 7); about 3 % of the scenes are
            empty.
        seed (int): Random seed of the scenes, >= 0. Defaults to 0.
        show_progress (bool): Whether to draw a progress bar. Defaults to
            True.
        classes (Sequence[str]): Names of the classes in the order of their
            categories. Other digits are in the scenes, but not annotated; a
            name that is not a digit has no objects. Defaults to '0' to '9'.

    Raises:
        InvalidTypeError: If ``size`` or ``seed`` is not an integer.
        InvalidValueError: If ``out`` exists or cannot be created, a number is
            out of range, or scikit-learn is missing.
    """
    check_count('size', size, SMALLEST_SIZE, LARGEST_SIZE)
    check_count('seed', seed, lowest=0)
    least, most = digits_per_scene
    if not 0 < least <= most:
        raise InvalidValueError(
            '`digits_per_scene` must be (least, most) with 0 < least <= '
            f'most, but got {digits_per_scene}')
    if any(num_scenes.get(name, 0) < 1 for name, _ in DIGIT_SHARES):
        raise InvalidValueError(
            "`num_scenes` must be >= 1 for each of 'train', 'val' and "
            f"'test', but got {num_scenes}")
    classes = tuple(classes)
    if len(set(classes)) < len(classes) or not set(classes) & set(CLASSES):
        raise InvalidValueError(
            '`classes` must be different names, one of them a digit, but got '
            f'{classes}')
    splits = split_digits(seed)
    with new_folder(out) as temporary:
        # The bar moves in large steps, so that a log file stays readable.
        steps = sum(count // BAR_STEP for count in num_scenes.values())
        bar = ProgressBar(steps * BAR_STEP) if show_progress else None
        os.makedirs(osp.join(temporary, 'annotations'))
        for index, (name, split) in enumerate(splits.items()):
            _write_split(temporary, name, split, num_scenes[name], size,
                         digits_per_scene, (seed, index), bar, classes)
    if bar is not None:
        bar.file.write('\n')


def _write_split(folder: str, name: str, split: Tuple[np.ndarray, np.ndarray],
                 num_scenes: int, size: int, digits_per_scene: Tuple[int, int],
                 seed: Tuple[int, int], bar: Optional[ProgressBar],
                 classes: Tuple[str, ...]) -> None:
    os.makedirs(osp.join(folder, name))
    images, annotations = [], []
    for image_id in range(1, num_scenes + 1):
        rng = np.random.default_rng((*seed, image_id))
        count = int(rng.integers(digits_per_scene[0], digits_per_scene[1] + 1))
        if rng.random() < EMPTY_SHARE:
            count = 0
        image, objects = compose_scene(rng, *split, size, count)
        file_name = f'{image_id:05d}.jpg'
        is_encoded, jpeg = cv2.imencode('.jpg', image,
                                        (cv2.IMWRITE_JPEG_QUALITY, 95))
        if not is_encoded:
            raise InvalidValueError(
                'OpenCV must be able to write JPEG files, but was built '
                'without JPEG support: install opencv-python')
        # On a full disk this raises an error; imwrite would return False.
        jpeg.tofile(osp.join(folder, name, file_name))
        images.append(
            dict(id=image_id, file_name=file_name, width=size, height=size))
        for label, (x, y, width, height) in objects:
            if CLASSES[label] not in classes:
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=classes.index(CLASSES[label]) + 1,
                    bbox=[x, y, width, height],
                    area=width * height,
                    iscrowd=0))
        if bar is not None and image_id % BAR_STEP == 0:
            bar.update(BAR_STEP)
    content = dict(
        info=dict(description='handwritten digits of scikit-learn, composed'),
        images=images,
        annotations=annotations,
        categories=[
            dict(id=label + 1, name=name) for label, name in enumerate(classes)
        ])
    path = osp.join(folder, 'annotations', f'{name}.json')
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(content, file)
