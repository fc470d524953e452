"""Figures of one shift, and means over several shifts.

Shapes:
    B: resamples of the images, the same ones for every shift
"""
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Sequence

import numpy as np

from tcal_det.evaluation.intervals import Interval, PairedDifference
from .options import CONFIDENCE
from .shifts import Shift

# For accuracy higher is better, for calibration errors lower is better.
ACCURACY = ('mAP', 'AP50')
ERRORS = ('d_ece', 'laece_0')
FIGURES = (*ACCURACY, *ERRORS)


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of all images and of every bootstrap resample of them.

    Attributes:
        values (Mapping[str, float]): Value of each figure, NaN where
            undefined.
        resamples (Mapping[str, ndarray]): Values of each figure on the
            resamples, NaN where undefined, shape (B,). B is 0 without
            intervals.
    """
    values: Mapping[str, float]
    resamples: Mapping[str, np.ndarray]

    @classmethod
    def combined(cls, function: Callable[[np.ndarray], np.ndarray],
                 parts: Sequence['Figures']) -> 'Figures':
        """Apply a function to the values and to each resample of figures.

        Args:
            function (Callable): Function from an array of shape (P, B) to
                one of shape (B,).
            parts (Sequence[Figures]): P figures of the same resamples, with
                the same keys.

        Returns:
            Figures: Results of the function with the same keys.
        """
        values = {
            key:
            function(np.array([[figures.values[key]] for figures in parts]))
            for key in parts[0].values
        }
        resamples = {
            key:
            function(np.stack([figures.resamples[key] for figures in parts]))
            for key in parts[0].resamples
        }
        return cls({
            key: float(value[0])
            for key, value in values.items()
        }, resamples)

    def intervals(self, highest: float = 1.0) -> Dict[str, Interval]:
        """Compute the confidence interval of each figure.

        Args:
            highest (float): Largest value that a figure can have. Defaults
                to 1.

        Returns:
            dict[str, Interval]: Interval of each figure.
        """
        return {
            key:
            Interval.from_resamples(value, self.resamples[key], CONFIDENCE,
                                    highest)
            for key, value in self.values.items()
        }

    def differences_from(self,
                         reference: 'Figures') -> Dict[str, PairedDifference]:
        """Compute the difference of each figure from a reference.

        Args:
            reference (Figures): Figures of the same resamples.

        Returns:
            dict[str, PairedDifference]: Difference of each figure.
        """
        return {
            key:
            PairedDifference.from_resamples(reference.values[key], value,
                                            reference.resamples[key],
                                            self.resamples[key], CONFIDENCE)
            for key, value in self.values.items()
        }


def mean_of(parts: Sequence[Figures]) -> Figures:
    """Mean of figures; NaN where one of them is NaN.

    Args:
        parts (Sequence[Figures]): Figures of the same resamples, at least
            one.
    """
    return Figures.combined(lambda values: values.mean(axis=0), parts)


def ratio_of(numerator: Figures, denominator: Figures) -> Figures:
    """Quotient of figures; NaN where the denominator is 0.

    Args:
        numerator (Figures): Figures to divide.
        denominator (Figures): Figures to divide by, of the same resamples.
    """

    def quotient(values):
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.where(values[1] == 0, np.nan, values[0] / values[1])

    return Figures.combined(quotient, (numerator, denominator))


@dataclass(frozen=True, eq=False)
class Cell:
    """A shift and the figures that were measured under it.

    Attributes:
        shift (Shift): Change of the images.
        figures (Figures): Figures with the keys of ``FIGURES``.
        num_detections (int): Number of detections in all images.
    """
    shift: Shift
    figures: Figures
    num_detections: int

    def to_dict(self) -> Dict[str, Any]:
        """Plain values, which :meth:`from_dict` reads."""
        return dict(
            shift=self.shift.to_dict(),
            num_detections=self.num_detections,
            values=dict(self.figures.values),
            resamples={
                key: values.tolist()
                for key, values in self.figures.resamples.items()
            })

    @classmethod
    def from_dict(cls, content: Dict[str, Any]) -> 'Cell':
        """Build a cell from the result of :meth:`to_dict`.

        Args:
            content (dict): Content of a JSON file; None means NaN.

        Raises:
            KeyError: If a key is missing.
            TypeError: If a value has the wrong type.
            ValueError: If a value is not a number.
        """
        shift = Shift(**content['shift'])
        values, resamples = content['values'], content['resamples']
        figures = Figures(
            {key: float(np.array(values[key], float))
             for key in FIGURES},
            {key: np.array(resamples[key], float)
             for key in FIGURES})
        return cls(shift, figures, int(content['num_detections']))
