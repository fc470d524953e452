"""Uncertainty of calibration figures, from a bootstrap over images.

Images are drawn with replacement, with all samples of an image together,
because samples of one image are not independent. Every figure follows from
sums over samples. Therefore a resample is a weighted sum of the sums of each
image, and the samples are read only once.

Shapes: N samples of I images; B resamples; C classes; M bins; R ranges.
"""
import math
from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np
from scipy.special import expit

from tcal_det.evaluation.functional.binning import (bin_index, cell_sums,
                                                    summarize_gaps)

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """Figure with its confidence interval.

    Attributes:
        value (float): Figure of the original images.
        low (float): Lower end of the interval; NaN without an interval.
        high (float): Upper end of the interval; NaN without an interval.
    """
    value: float
    low: float
    high: float

    @classmethod
    def from_resamples(cls,
                       value: float,
                       resampled: np.ndarray,
                       lowest: float = -np.inf) -> 'Estimate':
        """Make an interval from percentiles of the resamples.

        The percentiles are shifted so that the mean of the resamples is the
        value. Resampling adds noise, and noise increases an error that is a
        sum of absolute gaps: without the shift the interval of a
        well-calibrated teacher would lie above its own figure.

        Args:
            value (float): Figure of the original images.
            resampled (ndarray): Figures of the resamples, shape (B,). Values
                that are not finite (resamples without a sample or without an
                optimum) are left out.
            lowest (float): Smallest possible value of the figure. Defaults to
                -inf.

        Returns:
            Estimate: Value and interval.
        """
        resampled = resampled[np.isfinite(resampled)]
        if len(resampled) == 0:
            return cls(value, np.nan, np.nan)
        tail = (1 - CONFIDENCE_LEVEL) / 2
        low, high = value + np.quantile(resampled,
                                        (tail, 1 - tail)) - resampled.mean()
        return cls(value, max(float(low), lowest), float(high))

    def to_dict(self) -> Dict[str, float]:
        """Convert to plain numbers."""
        return dict(value=self.value, low=self.low, high=self.high)

    def text(self, digits: int = 4) -> str:
        """Format the value and its interval.

        Args:
            digits (int): Number of decimal places. Defaults to 4.
        """
        if math.isnan(self.value):
            return 'n/a'
        interval = 'no interval'
        if not math.isnan(self.low):
            interval = f'{self.low:.{digits}f}, {self.high:.{digits}f}'
        return f'{self.value:.{digits}f} [{interval}]'


def draw_images(num_images: int, num_resamples: int, seed: int) -> np.ndarray:
    """Draw how often each image occurs in each resample.

    Args:
        num_images (int): Number of images, I.
        num_resamples (int): Number of resamples, B.
        seed (int): Random seed of the draws.

    Returns:
        ndarray: Counts as float64, shape (B, I); each row sums to I.
    """
    shares = np.full(num_images, 1 / num_images)
    draws = np.random.default_rng(seed).multinomial(num_images, shares,
                                                    num_resamples)
    return draws.astype(np.float64)


def resampled_ece(confidence: np.ndarray, correct: np.ndarray,
                  image_ids: np.ndarray, draws: np.ndarray,
                  num_bins: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute ECE and its two parts for each resample.

    Args:
        confidence (ndarray): Confidences, in [0, 1], shape (N,).
        correct (ndarray): Correctness, 0 or 1, or the target of the
            confidence, in [0, 1]; shape (N,).
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        draws (ndarray): Result of ``draw_images``, shape (B, I).
        num_bins (int): Number of bins, M.

    Returns:
        tuple[ndarray, ndarray, ndarray]: ECE, its over-confident and its
        under-confident part, shape (B,) each.
    """
    gaps = summarize_gaps(*_resampled_means(
        bin_index(confidence, num_bins), num_bins, confidence,
        correct.astype(np.float64), image_ids, draws))
    return gaps.error, gaps.over, gaps.under


def resampled_ace(probs: np.ndarray, labels: np.ndarray, image_ids: np.ndarray,
                  draws: np.ndarray, num_ranges: int) -> np.ndarray:
    """Compute ACE over all classes for each resample.

    The ranges are those of the original images. Ranges of equal counts in
    the resample itself would differ only little from them.

    Args:
        probs (ndarray): Class probabilities, shape (N, C).
        labels (ndarray): Assigned classes, in [0, C), shape (N,).
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        draws (ndarray): Result of ``draw_images``, shape (B, I).
        num_ranges (int): Number of ranges, R.

    Returns:
        ndarray: ACE of each resample, shape (B,).
    """
    num_samples, num_classes = probs.shape
    ranges = np.empty(num_samples, np.int64)
    total = np.zeros(len(draws))
    for k in range(num_classes):
        cuts = np.arange(num_ranges + 1) * num_samples // num_ranges
        ranges[np.argsort(probs[:, k], kind='stable')] = np.repeat(
            np.arange(num_ranges), np.diff(cuts))
        count, confidence, target = _resampled_means(
            ranges, num_ranges, probs[:, k], (labels == k).astype(np.float64),
            image_ids, draws)
        gap = np.where(count > 0, np.abs(confidence - target), 0.0)
        with np.errstate(invalid='ignore'):  # a resample without samples
            total += gap.sum(axis=1) / (count > 0).sum(axis=1)
    return total / num_classes


def resampled_temperature(logits: np.ndarray, labels: np.ndarray,
                          temperature: float, image_ids: np.ndarray,
                          draws: np.ndarray) -> np.ndarray:
    """Compute the temperature of smallest NLL of each resample.

    First-order approximation: one Newton step for the logarithm of T from
    the optimum of all images. With b = 1 / T, p = softmax(b z) and label y,
    the derivatives of the NLL by b are E_p[z] - z_y and Var_p[z].

    Args:
        logits (ndarray): Logits, shape (N, C).
        labels (ndarray): Assigned classes, in [0, C), shape (N,).
        temperature (float): Optimal temperature of all images.
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        draws (ndarray): Result of ``draw_images``, shape (B, I).

    Returns:
        ndarray: Temperature of each resample, shape (B,); not finite if the
        NLL of the resample does not depend on the temperature.
    """
    num_images = draws.shape[1]
    slope, curvature = np.zeros(num_images), np.zeros(num_images)
    for k in range(0, len(logits), 2**16):  # keep the temporaries small
        rows = slice(k, k + 2**16)
        z = logits[rows].astype(np.float64)
        z = (z - z.max(axis=1, keepdims=True)) / temperature
        probs = np.exp(z)
        probs /= probs.sum(axis=1, keepdims=True)
        mean = (probs * z).sum(axis=1)
        variance = (probs * (z - mean[:, None])**2).sum(axis=1)
        true = z[np.arange(len(z)), labels[rows]]
        slope += np.bincount(image_ids[rows], mean - true, num_images)
        curvature += np.bincount(image_ids[rows], variance, num_images)
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        return temperature * np.exp((draws @ slope) / (draws @ curvature))


def resampled_sum_ratio(scores: np.ndarray, targets: np.ndarray,
                        image_ids: np.ndarray,
                        draws: np.ndarray) -> np.ndarray:
    """Divide the sum of the scores by that of the targets, per resample.

    Args:
        scores (ndarray): Scores, shape (N,).
        targets (ndarray): Targets of the scores, shape (N,).
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        draws (ndarray): Result of ``draw_images``, shape (B, I).

    Returns:
        ndarray: Ratio of each resample, shape (B,); not finite if the targets
        of the resample sum to 0.
    """
    of_scores, of_targets = (
        draws @ np.bincount(image_ids, values, draws.shape[1])
        for values in (scores, targets))
    with np.errstate(invalid='ignore', divide='ignore'):
        return of_scores / of_targets


def resampled_mean(values: np.ndarray, image_ids: np.ndarray,
                   draws: np.ndarray) -> np.ndarray:
    """Compute the mean over the samples of each resample.

    Args:
        values (ndarray): Values of the samples, shape (N,).
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        draws (ndarray): Result of ``draw_images``, shape (B, I).

    Returns:
        ndarray: Mean of each resample, shape (B,); NaN if the resample has no
        sample.
    """
    return resampled_sum_ratio(values, np.ones(len(values)), image_ids, draws)


def resampled_platt(logits: np.ndarray, targets: np.ndarray, scale: float,
                    bias: float, image_ids: np.ndarray,
                    draws: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Compute Platt's scale and bias of smallest NLL of each resample.

    First-order approximation: one Newton step from the optimum of all images.
    With v = a z + b and p = sigmoid(v), the gradient of the NLL by (a, b) is
    the sum of (p - y)(z, 1), and its Hessian is the sum of p (1 - p) times
    the outer product of (z, 1) with itself.

    Args:
        logits (ndarray): Logits, shape (N,).
        targets (ndarray): Targets of the scores, in [0, 1], shape (N,).
        scale (float): Optimal scale of all images.
        bias (float): Optimal bias of all images.
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        draws (ndarray): Result of ``draw_images``, shape (B, I).

    Returns:
        tuple[ndarray, ndarray]: Scale and bias, shape (B,) each; not finite
        if the NLL of the resample does not determine them.
    """
    # With centred logits, scale and bias are nearly independent.
    center = logits.mean(dtype=np.float64)
    z = logits.astype(np.float64) - center
    probs = expit(scale * logits + bias)
    residual, variance = probs - targets, probs * (1 - probs)
    by_scale, by_bias, scale_2, mixed, bias_2 = (
        draws @ np.bincount(image_ids, values, draws.shape[1])
        for values in (residual * z, residual, variance * z**2, variance * z,
                       variance))
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        determinant = scale_2 * bias_2 - mixed**2
        scales = scale - (bias_2 * by_scale - mixed * by_bias) / determinant
        at_center = (
            scale * center + bias -
            (scale_2 * by_bias - mixed * by_scale) / determinant)
        return scales, at_center - scales * center


def _resampled_means(
        cell: np.ndarray, num_cells: int, confidence: np.ndarray,
        target: np.ndarray, image_ids: np.ndarray,
        draws: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute count and means of each cell per resample, shape (B, cells)."""
    num_images = draws.shape[1]
    sums = cell_sums(image_ids * num_cells + cell, num_images * num_cells,
                     confidence, target)
    count, confidence, target = (
        draws @ part.reshape(num_images, num_cells).astype(np.float64)
        for part in sums)
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN for an empty cell
        return count, confidence / count, target / count
