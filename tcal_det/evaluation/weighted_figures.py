"""Calibration figures of a data set in which images occur several times.

A bootstrap resample draws images with replacement, so it is the data set with
a multiplicity for each image. Matching within an image does not depend on
other images. It is therefore done once, and a resample changes only the
weights of the matches. Each class in this module stores sums over detections
by image. Called with multiplicities, it returns the figures that
:func:`evaluate_detections` returns for a data set in which the images are
really repeated.

Shapes:
    D: detections
    I: images
    K: classes
    M: bins
    B: resamples, the columns of ``weights``
"""
from typing import Dict

import numpy as np
from scipy.sparse import csr_matrix, vstack

from .functional import FALSE_POSITIVE, DetectionMatches, bin_index
from .functional.average_precision import mean_precision
from .functional.precision_table import PrecisionTable, interpolated_precision
from .functional.scoring_rules import SMALLEST_LIKELIHOOD
from .image_sums import class_mean, ratio, row_blocks, sums_by_image

Figures = Dict[str, np.ndarray]


class WeightedScores:
    """D-ECE, its parts, Brier score and NLL of all classes together.

    The gap of a bin times its number of detections is the difference of its
    sums. So D-ECE is the sum over bins of ``abs(sum of (score - is_tp))``,
    divided by the number of detections.

    Args:
        matches (DetectionMatches): Matches at the IoU threshold of D-ECE.
        image_index (ndarray): Image of each detection, shape (D,).
        num_images (int): Number of images I.
        num_bins (int): Number of bins of D-ECE.
        closed (str): Closed side of the bins.
    """

    def __init__(self, matches: DetectionMatches, image_index: np.ndarray,
                 num_images: int, num_bins: int, closed: str) -> None:
        counted = matches.is_counted
        scores, is_tp = matches.scores[counted], matches.is_tp[counted]
        image_index = image_index[counted]
        likelihood = np.where(is_tp, scores, 1 - scores)
        one_cell = np.zeros(len(scores), np.int64)
        self._num_bins = num_bins
        self._sums = vstack([
            sums_by_image(
                bin_index(scores, num_bins, closed), image_index,
                (num_bins, num_images), scores - is_tp),
            *(sums_by_image(one_cell, image_index, (1, num_images), values)
              for values in
              (np.ones(len(scores)), (1 - likelihood)**2,
               -np.log(np.maximum(likelihood, SMALLEST_LIKELIHOOD))))
        ], 'csr')

    def __call__(self, weights: np.ndarray) -> Figures:
        """Compute the figures of resamples, each of shape (B,).

        Args:
            weights (ndarray): Number of times that each image occurs, shape
                (I, B).
        """
        sums = self._sums @ weights
        gaps = sums[:self._num_bins]
        count, squares, negative_log = sums[self._num_bins:]
        over = ratio(np.maximum(gaps, 0).sum(axis=0), count)
        under = ratio(np.maximum(-gaps, 0).sum(axis=0), count)
        return dict(
            d_ece=over + under,
            d_ece_over=over,
            d_ece_under=under,
            brier=ratio(squares, count),
            nll=ratio(negative_log, count))


class WeightedLocalizationAwareError:
    """LaECE or LaECE_0, mean over the measured classes.

    Args:
        key (str): Name of the figure.
        matches (DetectionMatches): Matches at the IoU threshold of the figure.
        image_index (ndarray): Image of each detection, shape (D,).
        objects (csr_matrix): Numbers of objects from :func:`objects_by_image`.
        num_bins (int): Number of bins of each class.
        closed (str): Closed side of the bins.
    """

    def __init__(self, key: str, matches: DetectionMatches,
                 image_index: np.ndarray, objects: csr_matrix, num_bins: int,
                 closed: str) -> None:
        counted = matches.is_counted
        scores = matches.scores[counted]
        class_index = matches.class_index[counted]
        image_index = image_index[counted]
        num_classes, num_images = objects.shape
        self._key, self._objects = key, objects
        self._count = sums_by_image(class_index, image_index, objects.shape)
        self._gaps = sums_by_image(
            class_index * num_bins + bin_index(scores, num_bins, closed),
            image_index, (num_classes * num_bins, num_images),
            scores - matches.iou[counted])

    def __call__(self, weights: np.ndarray) -> Figures:
        """Compute the figures, see :meth:`WeightedScores.__call__`."""
        count = self._count @ weights
        gaps = np.abs(self._gaps @ weights)
        error = ratio(
            gaps.reshape(len(count), -1, weights.shape[1]).sum(axis=1), count)
        is_measured = (self._objects @ weights > 0) & (count > 0)
        return {self._key: class_mean(error, is_measured)}


class WeightedAnyOverlap:
    """LaACE_0, LRP_0 and its components, which need no bins and no order.

    Args:
        matches (DetectionMatches): Matches at IoU threshold 0.
        image_index (ndarray): Image of each detection, shape (D,).
        objects (csr_matrix): Numbers of objects from :func:`objects_by_image`.
    """

    def __init__(self, matches: DetectionMatches, image_index: np.ndarray,
                 objects: csr_matrix) -> None:
        self._iou_thr, self._objects = matches.iou_thr, objects

        def by_class(mask, values=None):
            return sums_by_image(matches.class_index[mask], image_index[mask],
                                 objects.shape,
                                 None if values is None else values[mask])

        is_tp = matches.is_tp
        self._num_tp = by_class(is_tp)
        self._num_fp = by_class(matches.status == FALSE_POSITIVE)
        self._loc = by_class(is_tp, 1 - matches.iou)
        self._gaps = by_class(matches.is_counted,
                              np.abs(matches.scores - matches.iou))

    def __call__(self, weights: np.ndarray) -> Figures:
        """Compute the figures, see :meth:`WeightedScores.__call__`."""
        num_objects = self._objects @ weights
        num_tp, num_fp = self._num_tp @ weights, self._num_fp @ weights
        loc = self._loc @ weights
        num_fn, count = num_objects - num_tp, num_tp + num_fp
        lrp = ratio(loc / (1 - self._iou_thr) + num_fp + num_fn,
                    count + num_fn)
        has_objects = num_objects > 0
        is_measured = has_objects & (count > 0)
        return dict(
            laace_0=class_mean(
                ratio(self._gaps @ weights, count), is_measured),
            lrp_0=class_mean(lrp, has_objects),
            lrp_0_loc=class_mean(
                ratio(loc, num_tp), has_objects & (num_tp > 0)),
            lrp_0_fp=class_mean(ratio(num_fp, count), is_measured),
            lrp_0_fn=class_mean(ratio(num_fn, num_objects), has_objects))


class WeightedOptimalLRP:
    """Optimal LRP (oLRP), mean over classes of the smallest LRP.

    Adding a false positive never decreases LRP, so the best threshold is the
    score of a true positive. Only these scores are compared as cuts; false
    positives are summed between cuts.

    Args:
        matches (DetectionMatches): Matches at the IoU threshold of oLRP.
        image_index (ndarray): Image of each detection, shape (D,).
        objects (csr_matrix): Numbers of objects from :func:`objects_by_image`.
    """

    def __init__(self, matches: DetectionMatches, image_index: np.ndarray,
                 objects: csr_matrix) -> None:
        counted = np.flatnonzero(matches.is_counted)
        order = counted[np.lexsort(
            (-matches.scores[counted], matches.class_index[counted]))]
        class_index, scores = matches.class_index[order], matches.scores[order]
        is_tp = matches.is_tp[order]
        starts_run = np.ones(len(order), dtype=bool)
        starts_run[1:] = ((class_index[1:] != class_index[:-1])
                          | (scores[1:] != scores[:-1]))
        run = np.cumsum(starts_run) - 1
        runs_with_tp = np.unique(run[is_tp])
        cut_class = class_index[starts_run][runs_with_tp]
        # A detection is counted from the first cut at or below its score.
        cut = np.searchsorted(runs_with_tp, run)
        is_above = np.append(cut_class, -1)[cut] == class_index
        shape = len(runs_with_tp), objects.shape[1]

        def by_cut(mask, values=None):
            rows = order[mask]
            return sums_by_image(cut[mask], image_index[rows], shape,
                                 None if values is None else values[rows])

        self._objects = objects
        self._false = by_cut(is_above & ~is_tp)
        # A true positive adds its localisation error to the numerator of LRP
        # and removes one missed object.
        self._true = by_cut(is_tp,
                            (1 - matches.iou) / (1 - matches.iou_thr) - 1)
        self._blocks = row_blocks(cut_class)

    def __call__(self, weights: np.ndarray) -> Figures:
        """Compute the figures, see :meth:`WeightedScores.__call__`."""
        num_objects = self._objects @ weights
        least = np.ones(num_objects.shape)  # without a true positive
        num_fp, gained = self._false @ weights, self._true @ weights
        for k, rows in self._blocks:
            total = num_objects[k] + np.cumsum(num_fp[rows], axis=0)
            error = 1 + ratio(np.cumsum(gained[rows], axis=0), total)
            least[k] = np.minimum(error.min(axis=0), 1)
        return dict(olrp=class_mean(least, num_objects > 0))


class WeightedObjectError:
    """OCE: the mean cost of the objects.

    Args:
        per_object (ndarray): Cost of each object, NaN for crowds, shape
            (G,).
        image_index (ndarray): Image of each object, shape (G,).
        num_images (int): Number of images I.
    """

    def __init__(self, per_object: np.ndarray, image_index: np.ndarray,
                 num_images: int) -> None:
        is_object = ~np.isnan(per_object)
        images = image_index[is_object]
        one_cell = np.zeros(len(images), np.int64)
        self._sums = vstack([
            sums_by_image(one_cell, images, (1, num_images), values)
            for values in (per_object[is_object], np.ones(len(images)))
        ], 'csr')

    def __call__(self, weights: np.ndarray) -> Figures:
        """Compute the figures, see :meth:`WeightedScores.__call__`."""
        return dict(oce=ratio(*(self._sums @ weights)))


class WeightedAveragePrecision:
    """'mAP', 'AP50' and 'AP75' of weighted images.

    Args:
        table (PrecisionTable): Precision table of objects of any area.
    """

    def __init__(self, table: PrecisionTable) -> None:
        self._table = table

    def __call__(self, weights: np.ndarray) -> Figures:
        """Compute the figures, see :meth:`WeightedScores.__call__`."""
        figures = [
            mean_precision(interpolated_precision(self._table, column))
            for column in weights.T
        ]
        return {
            key:
            np.array([figures_of_class[key] for figures_of_class in figures])
            for key in figures[0]
        }
