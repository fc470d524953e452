"""The figures of one shift, and means of several.

Shape shorthand:
    B: resamples of the images, the same ones for every shift
"""
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Sequence

import numpy as np

from tcal_det.evaluation.intervals import Interval, PairedDifference
from .shifts import Shift

CONFIDENCE = 0.95
# Accuracy, which shall be high, and calibration errors, which shall be low.
ACCURACY = ('mAP', 'AP50')
ERRORS = ('d_ece', 'laece_0')
FIGURES = (*ACCURACY, *ERRORS)


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of the images as they are, and of every resample of them.

    Attributes:
        values (Mapping[str, float]): By key, NaN where undefined.
        resamples (Mapping[str, ndarray]): By key, NaN where undefined, shape
            (B,); B is 0 where no intervals are wanted.
    """
    values: Mapping[str, float]
    resamples: Mapping[str, np.ndarray]

    @classmethod
    def combined(cls, function: Callable[[np.ndarray], np.ndarray],
                 parts: Sequence['Figures']) -> 'Figures':
        """A function of several figures, of the values and of each resample.

        Args:
            function (Callable): From an array of shape (P, B) to (B,).
            parts (Sequence[Figures]): P figures of the same resamples, with
                the same keys.
        """
        values = {
            key: function(np.array([[one.values[key]] for one in parts]))
            for key in parts[0].values
        }
        resamples = {
            key: function(np.stack([one.resamples[key] for one in parts]))
            for key in parts[0].resamples
        }
        return cls({
            key: float(value[0])
            for key, value in values.items()
        }, resamples)

    def intervals(self, highest: float = 1.0) -> Dict[str, Interval]:
        """The confidence interval of each figure.

        Args:
            highest (float): Largest value that a figure can have. Defaults
                to 1.
        """
        return {
            key:
            Interval.from_resamples(value, self.resamples[key], CONFIDENCE,
                                    highest)
            for key, value in self.values.items()
        }

    def differences_from(self,
                         reference: 'Figures') -> Dict[str, PairedDifference]:
        """How each figure differs from a reference, on the same resamples.

        Args:
            reference (Figures): Of the same resamples.
        """
        return {
            key:
            PairedDifference.from_resamples(reference.values[key], value,
                                            reference.resamples[key],
                                            self.resamples[key], CONFIDENCE)
            for key, value in self.values.items()
        }


def mean_of(parts: Sequence[Figures]) -> Figures:
    """The mean of figures; NaN where one of them is.

    Args:
        parts (Sequence[Figures]): Of the same resamples, at least one.
    """
    return Figures.combined(lambda values: values.mean(axis=0), parts)


def ratio_of(numerator: Figures, denominator: Figures) -> Figures:
    """The quotient of figures; NaN where the denominator is 0.

    Args:
        numerator (Figures): Of the same resamples.
        denominator (Figures): Of the same resamples.
    """

    def quotient(values):
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.where(values[1] == 0, np.nan, values[0] / values[1])

    return Figures.combined(quotient, (numerator, denominator))


@dataclass(frozen=True, eq=False)
class Cell:
    """A shift and what was measured under it.

    Attributes:
        shift (Shift): What was done to the images.
        figures (Figures): By the keys of ``FIGURES``.
        num_detections (int): Detections in all images.
    """
    shift: Shift
    figures: Figures
    num_detections: int

    def to_dict(self) -> Dict[str, Any]:
        """Everything that :meth:`from_dict` needs, as plain values."""
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
        """The cell that :meth:`to_dict` has written; null is NaN.

        Args:
            content (dict): From a JSON file.

        Raises:
            KeyError, TypeError, ValueError: If it has another form.
        """
        shift = Shift(**content['shift'])
        values, resamples = content['values'], content['resamples']
        figures = Figures(
            {key: float(np.array(values[key], float))
             for key in FIGURES},
            {key: np.array(resamples[key], float)
             for key in FIGURES})
        return cls(shift, figures, int(content['num_detections']))
