"""The figures of a results file: what `tcal-eval` reports."""
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from .functional import DetectionCalibrationReport, evaluate_detections
from .functional.average_precision import average_precision
from .results_file import read_annotations_and_results

# Rows of the printed table: title by key of `overall`.
_TITLES = dict(
    mAP='mAP',
    AP50='AP50',
    AP75='AP75',
    d_ece='D-ECE',
    d_ece_over='  over',
    d_ece_under='  under',
    laece='LaECE',
    laece_0='LaECE_0',
    laace_0='LaACE_0',
    lrp_0='LRP_0',
    lrp_0_loc='  localisation',
    lrp_0_fp='  false positives',
    lrp_0_fn='  false negatives',
    olrp='oLRP',
    d_ece_position='D-ECE, score x position',
    d_ece_position_coverage='  its coverage',
    brier='Brier score',
    nll='NLL')


@dataclass(frozen=True)
class FileEvaluation:
    """What a results file is worth.

    Attributes:
        report (DetectionCalibrationReport): Calibration.
        average_precision (Dict[str, float]): COCO's figures, see
            :class:`AveragePrecision`.
        class_average_precision (List[Dict[str, float]]): The same of each
            class, in the order of ``report.per_class``.
        files (Dict[str, str]): 'ground_truth' and 'results'.
    """
    report: DetectionCalibrationReport
    average_precision: Dict[str, float]
    class_average_precision: List[Dict[str, float]]
    files: Dict[str, str]

    @property
    def overall(self) -> Dict[str, float]:
        """AP and calibration of the whole data set."""
        return dict(self.average_precision, **self.report.overall)

    def to_dict(self) -> Dict[str, Any]:
        """``settings``, ``counts``, ``overall``, ``per_class``, ``bins``."""
        content = self.report.to_dict()
        content['settings'] = dict(self.files, **content['settings'])
        content['overall'] = self.overall
        content['per_class'] = [
            dict(row, **precision) for row, precision in zip(
                content['per_class'], self.class_average_precision)
        ]
        return content

    def table(self) -> str:
        """The overall figures, for a terminal."""
        overall, counts = self.overall, self.report.counts
        lines = [
            f'{counts["detections"]} detections of {counts["classes"]} '
            f'classes in {counts["images"]} images with {counts["objects"]} '
            'objects'
        ]
        lines += [
            f'{title:<26}{overall[key]:8.4f}'
            for key, title in _TITLES.items()
        ]
        return '\n'.join(lines)


def evaluate_files(ground_truth_path: str,
                   results_path: str,
                   class_names: Optional[Sequence[str]] = None,
                   **options: Any) -> FileEvaluation:
    """Measure a results file in every way of this package, and its AP.

    Args:
        ground_truth_path (str): COCO annotations.
        results_path (str): See :func:`read_results`.
        class_names (Sequence[str], optional): Evaluate these classes only;
            detections of the others are left out, and a pickle's labels
            count these. Defaults to None, all categories.
        **options: Of :func:`evaluate_detections`.

    Returns:
        FileEvaluation: The figures.

    Raises:
        UserError: If a file, a record or an option is wrong.
    """
    ground_truth, detections, _ = read_annotations_and_results(
        ground_truth_path, results_path, class_names)
    report = evaluate_detections(ground_truth, detections, **options)
    precision = average_precision(ground_truth, detections)
    return FileEvaluation(
        report, precision.overall, precision.per_class,
        dict(ground_truth=ground_truth_path, results=results_path))
