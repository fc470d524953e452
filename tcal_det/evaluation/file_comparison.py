"""Comparison of results files with intervals, as `tcal-compare` reports it."""
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from tcal_det.errors import InvalidValueError
from .bootstrap import (RESAMPLED_FIGURES, ResampledFigures, check_resampling,
                        resample_figures)
from .formats import load_annotations_and_results, read_annotations
from .functional import Detections, GroundTruth
from .functional.figures import BY_KEY
from .image_resampling import Progress
from .intervals import Interval, PairedDifference
from .results_file import naming_file
from .slices import (ImageSlice, attribute_from_file, image_attribute,
                     image_slices)

# Figures in the table of slices.
_HEADLINES = ('mAP', 'd_ece', 'laece_0', 'lrp_0')


class SliceRule(NamedTuple):
    """Rule by which images are sorted into slices.

    Attributes:
        attribute (str): Field of the image records, or path of a .json file,
            see :mod:`.slices`.
        edges (Sequence[float], optional): Ascending bounds of the ranges of a
            number. Defaults to None, which means one slice for each value.
    """
    attribute: str
    edges: Optional[Sequence[float]] = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Figures of several sets of detections on the same images.

    Attributes:
        resampled (list[ResampledFigures]): Figures of each results file.
        confidence (float): Confidence level of the intervals.
    """
    resampled: List[ResampledFigures]
    confidence: float

    @property
    def intervals(self) -> List[Dict[str, Interval]]:
        """Intervals of each results file, by figure."""
        return [
            figures.intervals(self.confidence) for figures in self.resampled
        ]

    @property
    def differences(self) -> List[Dict[str, PairedDifference]]:
        """Differences of all other files from the first file.

        Empty for one file.
        """
        reference, *others = self.resampled
        return [
            other.differences_from(reference, self.confidence)
            for other in others
        ]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values, with ``results`` and ``differences``."""
        return dict(
            results=[
                dict(counts=resampled.counts, figures=_plain(figures))
                for resampled, figures in zip(self.resampled, self.intervals)
            ],
            differences=[_plain(figures) for figures in self.differences])


@dataclass(frozen=True, eq=False)
class ComparedSlice:
    """Comparison on the images with one value of an attribute.

    Attributes:
        value (str | float | bool, optional): Value of the attribute, see
            :class:`ImageSlice`.
        counts (dict[str, int]): Numbers of images, objects and classes with
            objects.
        comparison (Comparison): Comparison on these images only.
    """
    value: Any
    counts: Dict[str, int]
    comparison: Comparison


@dataclass(frozen=True, eq=False)
class FileComparison:
    """Comparison of results files, overall and in slices.

    Attributes:
        files (list[str]): Paths of the results files, the reference first.
        settings (dict[str, Any]): Options of the evaluation and of the
            resampling.
        overall (Comparison): Comparison on all images.
        slices (dict[str, list[ComparedSlice]]): Compared slices by attribute.
    """
    files: List[str]
    settings: Dict[str, Any]
    overall: Comparison
    slices: Dict[str, List[ComparedSlice]]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values by section.

        The sections are ``settings``, ``files``, ``results``, ``differences``
        and ``slices``. ``results`` has one entry for each file.
        ``differences`` has one entry for each file except the first one, which
        is the reference.
        """
        return dict(
            settings=self.settings,
            files=self.files,
            **self.overall.to_dict(),
            slices={
                attribute: [
                    dict(
                        value=part.value,
                        **part.counts,
                        **part.comparison.to_dict()) for part in parts
                ]
                for attribute, parts in self.slices.items()
            })

    def table(self) -> str:
        """Format all figures, then the main figures of each slice, as text."""
        counts = self.overall.resampled[0].counts
        lines = [
            f'{counts["images"]} images, {counts["objects"]} objects, '
            f'{counts["classes"]} classes; intervals from '
            f'{self.settings["num_resamples"]} resamples of the images'
        ]
        lines += [
            f'{letter}: {resampled.counts["detections"]} detections, {file}'
            for letter, file, resampled in zip(ascii_uppercase, self.files,
                                               self.overall.resampled)
        ]
        lines += _table_lines(self.overall, RESAMPLED_FIGURES)
        for attribute, parts in self.slices.items():
            for part in parts:
                value = 'none' if part.value is None else part.value
                lines += [
                    '', f'{attribute} {value}: {part.counts["images"]} '
                    f'images, {part.counts["objects"]} objects'
                ]
                lines += _table_lines(part.comparison, _HEADLINES)
        return '\n'.join(lines)


def compare_files(ground_truth_path: str,
                  results_paths: Sequence[str],
                  class_names: Optional[Sequence[str]] = None,
                  images: Optional[str] = None,
                  names: Optional[str] = None,
                  slice_rules: Sequence[SliceRule] = (),
                  num_resamples: int = 1000,
                  seed: int = 0,
                  confidence: float = 0.95,
                  num_workers: Optional[int] = None,
                  progress: Optional[Progress] = None,
                  **options: Any) -> FileComparison:
    """Compute intervals of results files and of differences from the first.

    Args:
        ground_truth_path (str): Path to the annotations, see
            :func:`read_annotations`.
        results_paths (Sequence[str]): Paths to 1 to 26 results, see
            :func:`read_records`.
        class_names (Sequence[str], optional): Names of the classes to
            evaluate, see :func:`evaluate_files`. Defaults to None, which means
            all categories.
        images (str, optional): Path to the images or their sizes, see
            :func:`evaluate_files`. Defaults to None.
        names (str, optional): Path to the file of class names, see
            :func:`evaluate_files`. Defaults to None.
        slice_rules (Sequence[SliceRule]): Attributes whose values are compared
            separately. Defaults to ().
        num_resamples (int): Number of resamples of the images, see
            :func:`bootstrap_figures`. Defaults to 1000.
        seed (int): Random seed of the resamples. Defaults to 0.
        confidence (float): Confidence level in (0, 1). Defaults to 0.95.
        num_workers (int, optional): Number of processes, see
            :func:`bootstrap_figures`. Defaults to None.
        progress (Callable, optional): Progress callback, see
            :func:`bootstrap_figures`; its counts start again for each slice.
            Defaults to None.
        **options: Options of the evaluation, see :class:`EvaluationOptions`. A
            threshold 'lrp_optimal' is chosen separately for each file and each
            slice.

    Returns:
        FileComparison: Figures, intervals and differences.

    Raises:
        UserError: If a file, a record or an option is wrong.
    """
    check_resampling(num_resamples, confidence)
    if not 1 <= len(results_paths) <= len(ascii_uppercase):
        raise InvalidValueError(
            f'`results` must be 1 to {len(ascii_uppercase)} files, but got '
            f'{len(results_paths)}')
    detections = []
    for path in results_paths:
        ground_truth, detections_of_file, _ = load_annotations_and_results(
            ground_truth_path, path, class_names, images, names)
        detections.append(detections_of_file)
    # Images are sorted before the long computation, as the rules may be wrong.
    parts_of = {}
    annotations = read_annotations(ground_truth_path, images,
                                   names) if slice_rules else {}
    for rule in slice_rules:
        if rule.attribute in parts_of:
            raise InvalidValueError(
                '`slice_rules` must have each attribute once, but got '
                f'{rule.attribute!r} twice')
        parts_of[rule.attribute] = _slices(rule, ground_truth_path,
                                           annotations, ground_truth,
                                           detections)

    def compare(ground_truth: GroundTruth,
                detections: Sequence[Detections]) -> Comparison:
        return Comparison(
            resample_figures(ground_truth, detections, num_resamples, seed,
                             num_workers, progress, **options), confidence)

    overall = compare(ground_truth, detections)
    settings = dict(
        ground_truth=ground_truth_path,
        num_resamples=num_resamples,
        seed=seed,
        confidence=confidence,
        **overall.resampled[0].settings)
    return FileComparison(
        list(results_paths), settings, overall, {
            attribute: [
                ComparedSlice(part.value, part.counts,
                              compare(part.ground_truth, part.detections))
                for part in parts
            ]
            for attribute, parts in parts_of.items()
        })


def _slices(rule: SliceRule, ground_truth_path: str,
            annotations: Dict[str, Any], ground_truth: GroundTruth,
            detections: Sequence[Detections]) -> List[ImageSlice]:
    if rule.attribute.endswith('.json'):
        path = rule.attribute
        attribute = attribute_from_file(path, annotations)
    else:
        path = ground_truth_path
        with naming_file(path):
            attribute = image_attribute(annotations, rule.attribute)
    with naming_file(path):
        return image_slices(attribute, ground_truth, detections, rule.edges)


def _plain(figures: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    return {key: figure.to_dict() for key, figure in figures.items()}


def _table_lines(comparison: Comparison, keys: Sequence[str]) -> List[str]:
    """Format a table of intervals, or of differences for each other file."""
    level = f'{100 * comparison.confidence:.4g} % interval'
    if len(comparison.resampled) == 1:
        figures = comparison.intervals[0]
        return [f'{"":<20}{"A":>8}   {level}'] + [
            f'{_title(key):<20}{figures[key].value:8.4f}   '
            f'[{figures[key].low:.4f}, {figures[key].high:.4f}]'
            for key in keys
        ]
    lines = []
    for letter, pairs in zip(ascii_uppercase[1:], comparison.differences):
        lines.append(f'{"":<20}{"A":>8}{letter:>9}{f"{letter} - A":>10}   '
                     f'{level}')
        lines += [
            f'{_title(key):<20}{pairs[key].a:8.4f}'
            f'{pairs[key].b:9.4f}{pairs[key].difference:+10.4f}   '
            f'[{pairs[key].low:+.4f}, {pairs[key].high:+.4f}]'
            f'{_verdict(key, pairs[key])}' for key in keys
        ]
    return lines


def _title(key: str) -> str:
    figure = BY_KEY[key]
    return '  ' * bool(figure.part_of) + figure.title


def _verdict(key: str, difference: PairedDifference) -> str:
    """Get the mark of an interval that excludes 0, else an empty text."""
    if not difference.excludes_zero:
        return ''
    better = BY_KEY[key].better
    if better is None:
        return '  *'
    is_better = (difference.low > 0) == (better == 'higher')
    return '  * better' if is_better else '  * worse'
