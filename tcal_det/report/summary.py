"""Summary of the page in a few sentences."""
import math
from typing import List

from .example_images import KINDS_OF_ERROR
from .explanations import figure
from .measurement import Measurement
from .recalibration_gain import TARGETS, RecalibrationGain, best_gain

# Fewer detections of a class say little about its calibration.
_FEWEST_DETECTIONS = 100


def summarize_results(measurement: Measurement) -> List[str]:
    """Sentences about accuracy, calibration, threshold and recalibration.

    Args:
        measurement (Measurement): Measurement of one results file.
    """
    sentences = (_accuracy(measurement), _calibration(measurement),
                 _worst_class(measurement), _kind_of_error(measurement),
                 _threshold(measurement), *_recalibration(measurement))
    return [sentence for sentence in sentences if sentence]


def summarize_difference(first: Measurement, other: Measurement) -> str:
    """Compare accuracy and calibration of two results in one sentence.

    Args:
        first (Measurement): Measurement that the other is compared with.
        other (Measurement): Measurement on the same images.
    """
    parts = []
    for f in (figure('mAP'), figure('d_ece')):
        change = (other.report.overall[f.key] - first.report.overall[f.key])
        if math.isnan(change):
            continue
        difference = other.differences.get(f.key)
        text = (f'{f.title} {abs(change):.3f} '
                f'{"higher" if change > 0 else "lower"}')
        if difference is not None:
            chance = '' if difference.excludes_zero else ', may be chance'
            text += (f' (95 % interval of the difference {difference.low:+.3f}'
                     f' to {difference.high:+.3f}{chance})')
        parts.append(text)
    if not parts:
        return ''
    return f'{other.name} compared with {first.name}: {"; ".join(parts)}.'


def _accuracy(measurement: Measurement) -> str:
    figures = measurement.report.overall
    if math.isnan(figures['mAP']):
        return 'There is no annotated object, so AP is undefined.'
    return (f'Accuracy: mAP {figures["mAP"]:.3f}{_range(measurement, "mAP")}; '
            f'AP50 {figures["AP50"]:.3f}.')


def _calibration(measurement: Measurement) -> str:
    figures = measurement.report.overall
    error, over, under = (
        figures[key] for key in ('d_ece', 'd_ece_over', 'd_ece_under'))
    if math.isnan(error):
        return 'There is no counted detection, so calibration is undefined.'
    if over > 2 * under:
        tendency = 'mostly too high'
    elif under > 2 * over:
        tendency = 'mostly too low'
    else:
        tendency = 'too high in some places and too low in others'
    return (f'Calibration: scores differ from precision by {100 * error:.1f} '
            f'percentage points on average, {tendency} (D-ECE {error:.3f}'
            f'{_range(measurement, "d_ece")}).')


def _worst_class(measurement: Measurement) -> str:
    rows = [
        row for row in measurement.report.per_class
        if row['num_detections'] >= _FEWEST_DETECTIONS
    ]
    if len(rows) < 2:
        return ''
    worst = max(rows, key=lambda row: row['d_ece'])
    return (f'The class {worst["name"]!r} is calibrated worst: D-ECE '
            f'{worst["d_ece"]:.3f}.')


def _kind_of_error(measurement: Measurement) -> str:
    kind, cost = max(measurement.split.d_ap.items(), key=lambda item: item[1])
    if not cost > 0:
        return ''
    return (f'The kind of error with the largest effect is '
            f'"{KINDS_OF_ERROR[kind]}": without it AP50 would be {cost:.3f} '
            'higher.')


def _threshold(measurement: Measurement) -> str:
    point = measurement.operating_point
    if math.isnan(point.threshold):
        return ''
    return (f'Threshold: keep detections with a score of at least '
            f'{point.threshold:.2f}; then '
            f'{100 * point.precision:.0f} % of the detections are right and '
            f'{100 * point.recall:.0f} % of the objects are found.')


def _recalibration(measurement: Measurement) -> List[str]:
    if measurement.is_doubtful:
        # A map would learn what is wrong with the files.
        return []
    sentences = []
    for target in TARGETS:
        best = best_gain(measurement.gains, target)
        if best is None:
            continue
        name = 'D-ECE' if target == 'precision' else 'LaECE_0'
        before = measurement.report.overall[best.figure]
        if is_certain(measurement, best):
            kind = f'{best.method}{", a map for each class" * best.classwise}'
            sentences.append(
                f'Recalibration ({kind}) is expected to lower {name} from '
                f'{before:.3f} to {best.value:.3f}; mAP does not change.')
        else:
            sentences.append(f'No recalibration is certain to lower {name} '
                             f'({before:.3f}).')
    return sentences


def is_certain(measurement: Measurement, gain: RecalibrationGain) -> bool:
    """Whether a map lowers its figure and the interval excludes 0.

    Args:
        measurement (Measurement): Measurement of one results file.
        gain (RecalibrationGain): Best gain of its target.
    """
    difference = measurement.gain_differences.get(gain.target)
    if difference is not None and not difference.high < 0:
        return False
    return gain.value < measurement.report.overall[gain.figure]


def _range(measurement: Measurement, key: str) -> str:
    interval = measurement.intervals.get(key)
    if interval is None or math.isnan(interval.low):
        return ''
    return f', 95 % interval {interval.low:.3f} to {interval.high:.3f}'
