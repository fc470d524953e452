"""Crops of digits whose labels are noisy in a known way.

The crops are of one-digit scenes of tools/dataset_converters/digit_scenes.py.
The label of a 3, 8, 4, 9, 1 or 7 is swapped with that of its partner with
probability 0.3, so what a perfectly calibrated teacher would say of each crop
is known: 0.7 for the digit that was drawn, 0.3 for its partner.

Shapes: N crops, C = 10 classes, 256 pixels.
"""
from dataclasses import dataclass
from typing import List, Tuple

import cv2
import numpy as np

from tools.dataset_converters.digit_scenes import (CLASSES, compose_scene,
                                                   split_digits)

NUM_CLASSES = len(CLASSES)
SWAPPED_PAIRS = ((3, 8), (4, 9), (1, 7))
SWAP_PROBABILITY = 0.3

SCENE_SIZE = 64
CROP_SIZE = 16
# Of the larger side of the digit's box, as a detector's box is not exact.
MARGIN = (0.9, 1.3)
SHIFT = 0.1
# Digits that are drawn from are always those of the same permutation.
DIGITS_SEED = 0
SPLITS = ('student', 'other', 'val', 'test')


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops of one split.

    Attributes:
        pixels (ndarray): Grey, of mean 0 and standard deviation 1 in each
            crop, float32, shape (N, 256).
        clean_labels (ndarray): The digits drawn, int64, shape (N,).
        labels (ndarray): The same after the swaps, int64, shape (N,).
    """
    pixels: np.ndarray
    clean_labels: np.ndarray
    labels: np.ndarray

    @property
    def posterior(self) -> np.ndarray:
        """Distribution that ``labels`` were drawn from, shape (N, C)."""
        return label_distribution()[self.clean_labels]

    def first(self, num_crops: int) -> 'Crops':
        """The first crops alone."""
        return Crops(self.pixels[:num_crops], self.clean_labels[:num_crops],
                     self.labels[:num_crops])


def label_distribution(
        swap_probability: float = SWAP_PROBABILITY) -> np.ndarray:
    """Probability of each label, given the digit that was drawn.

    Args:
        swap_probability (float): Probability of a swap with the partner.
            Defaults to 0.3.

    Returns:
        ndarray: Row of a digit sums to 1, shape (C, C).
    """
    matrix = np.eye(NUM_CLASSES)
    for pair in SWAPPED_PAIRS:
        for label, partner in (pair, pair[::-1]):
            matrix[label, label] = 1 - swap_probability
            matrix[label, partner] = swap_probability
    return matrix


def tempered(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of log p / T: p^(1/T), divided by its sum.

    Args:
        probs (ndarray): Rows that sum to 1, zeros allowed, shape (N, C).
        temperature (float): > 0; above 1 the rows become softer.

    Returns:
        ndarray: Rows that sum to 1, shape (N, C).
    """
    # The largest is 1 before the power, so that no row vanishes.
    powers = (probs / probs.max(axis=1, keepdims=True))**(1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def make_crops(split: str, num_crops: int, seed: int) -> Crops:
    """Crops of a split; crop i is the same however many are asked for.

    Args:
        split (str): One of ``SPLITS``. The digits that one draws from are in
            no other; 'student' and 'other' share those for training.
        num_crops (int): Number of crops N.
        seed (int): Random seed of scenes and of label noise, >= 0.

    Returns:
        Crops: The crops with both labels.
    """
    digits, targets = digits_of(split)
    pixels = np.empty((num_crops, CROP_SIZE**2), np.float32)
    clean_labels = np.empty(num_crops, np.int64)
    uniform = np.empty(num_crops)
    for index in range(num_crops):
        rng = np.random.default_rng((seed, SPLITS.index(split), index))
        scene, objects = compose_scene(rng, digits, targets, SCENE_SIZE, 1)
        (clean_labels[index], box), = objects
        pixels[index] = standardize(crop_digit(rng, scene, box))
        uniform[index] = rng.random()
    labels = draw_labels(clean_labels, uniform)
    return Crops(pixels, clean_labels, labels)


def draw_labels(clean_labels: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Swap labels at random, by the rows of :func:`label_distribution`.

    Args:
        clean_labels (ndarray): The digits drawn, shape (N,).
        uniform (ndarray): Random numbers in [0, 1), shape (N,).

    Returns:
        ndarray: Noisy labels, int64, shape (N,).
    """
    cumulative = label_distribution().cumsum(axis=1)[clean_labels]
    # The last column is 1, up to rounding, which must not decide.
    return (uniform[:, None] >= cumulative[:, :-1]).sum(axis=1)


def digits_of(split: str) -> Tuple[np.ndarray, np.ndarray]:
    """Digits that a split draws from, and their classes.

    Args:
        split (str): One of ``SPLITS``.

    Returns:
        tuple[ndarray, ndarray]: Digits in [0, 16], shape (D, 8, 8), and
        classes, shape (D,).
    """
    splits = split_digits(DIGITS_SEED)
    if split in splits:
        return splits[split]
    digits, targets = splits['train']
    half = len(targets) // 2
    part = slice(half) if split == 'student' else slice(half, None)
    return digits[part], targets[part]


def crop_digit(rng: np.random.Generator, scene: np.ndarray,
               box: List[int]) -> np.ndarray:
    """Cut out the square about a digit, of random size and place.

    Args:
        rng (Generator): Source of the random numbers.
        scene (ndarray): Scene, BGR, shape (H, W, 3).
        box (list[int]): Box of the digit, (x, y, width, height), in pixels.

    Returns:
        ndarray: Grey square, shape (16, 16).
    """
    x, y, width, height = box
    longer = max(width, height)
    side = longer * rng.uniform(*MARGIN)
    left, top = (begin + extent / 2 - side / 2 +
                 longer * rng.uniform(-SHIFT, SHIFT)
                 for begin, extent in ((x, width), (y, height)))
    scale = CROP_SIZE / side
    # Pixel centres, so half a pixel on either side of the scale.
    place = np.array([[scale, 0, (0.5 - left) * scale - 0.5],
                      [0, scale, (0.5 - top) * scale - 0.5]])
    grey = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    return cv2.warpAffine(
        grey,
        place, (CROP_SIZE, CROP_SIZE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE)


def standardize(crop: np.ndarray) -> np.ndarray:
    """Scale grey values to mean 0 and standard deviation 1.

    Args:
        crop (ndarray): Grey square, shape (16, 16).

    Returns:
        ndarray: Values, float32, shape (256,).
    """
    values = crop.astype(np.float32).ravel()
    # A crop of one grey has no contrast to scale.
    return (values - values.mean()) / max(values.std(), 1)
