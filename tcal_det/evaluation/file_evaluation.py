"""Figures of a results file, as `tcal-eval` reports them."""
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence

from .formats import load_annotations_and_results
from .functional import DetectionCalibrationReport, evaluate_detections


@dataclass(frozen=True)
class FileEvaluation:
    """Figures of a results file.

    Attributes:
        report (DetectionCalibrationReport): All figures.
        files (dict[str, str]): Paths of the files, by 'ground_truth' and
            'results'.
    """
    report: DetectionCalibrationReport
    files: Dict[str, str]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values by section."""
        content = self.report.to_dict()
        content['settings'] = dict(self.files, **content['settings'])
        return content


def evaluate_files(ground_truth_path: str,
                   results_path: str,
                   class_names: Optional[Sequence[str]] = None,
                   images: Optional[str] = None,
                   names: Optional[str] = None,
                   **options: Any) -> FileEvaluation:
    """Compute all figures of a results file.

    Args:
        ground_truth_path (str): Path to the annotations, see
            :func:`read_annotations`.
        results_path (str): Path to the results, see :func:`read_records`.
        class_names (Sequence[str], optional): Names of the classes to
            evaluate. Detections of other classes are left out, and the labels
            of a pickle are indices into these classes. Defaults to None, which
            means all categories.
        images (str, optional): Path to the folder of the images, or to a file
            of their sizes, for YOLO labels. Defaults to None.
        names (str, optional): Path to the file of class names, for YOLO
            labels. Defaults to None.
        **options: Options of the evaluation, see :class:`EvaluationOptions`.

    Returns:
        FileEvaluation: Figures of the file.

    Raises:
        UserError: If a file, a record or an option is wrong.
    """
    ground_truth, detections, _ = load_annotations_and_results(
        ground_truth_path, results_path, class_names, images, names)
    report = evaluate_detections(ground_truth, detections, **options)
    return FileEvaluation(
        report, dict(ground_truth=ground_truth_path, results=results_path))
