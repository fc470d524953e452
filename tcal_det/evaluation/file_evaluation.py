"""The figures of a results file: what `tcal-eval` reports."""
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence

from .formats import load_annotations_and_results
from .functional import (FIGURES, DetectionCalibrationReport,
                         evaluate_detections)


@dataclass(frozen=True)
class FileEvaluation:
    """What a results file is worth.

    Attributes:
        report (DetectionCalibrationReport): All figures.
        files (Dict[str, str]): 'ground_truth' and 'results'.
    """
    report: DetectionCalibrationReport
    files: Dict[str, str]

    def to_dict(self) -> Dict[str, Any]:
        """``settings``, ``counts``, ``overall``, ``per_class``, ``bins``."""
        content = self.report.to_dict()
        content['settings'] = dict(self.files, **content['settings'])
        return content

    def table(self) -> str:
        """The headline figures, for a terminal."""
        overall, counts = self.report.overall, self.report.counts
        lines = [
            f'{counts["detections"]} detections of {counts["classes"]} '
            f'classes in {counts["images"]} images with {counts["objects"]} '
            'objects'
        ]
        for figure in FIGURES:
            if figure.is_headline:
                title = '  ' * bool(figure.part_of) + figure.title
                lines.append(f'{title:<26}{overall[figure.key]:8.4f}')
        return '\n'.join(lines)


def evaluate_files(ground_truth_path: str,
                   results_path: str,
                   class_names: Optional[Sequence[str]] = None,
                   images: Optional[str] = None,
                   names: Optional[str] = None,
                   **options: Any) -> FileEvaluation:
    """Measure a results file in every way of this package.

    Args:
        ground_truth_path (str): See :func:`read_annotations`.
        results_path (str): See :func:`read_records`.
        class_names (Sequence[str], optional): Evaluate these classes only;
            detections of the others are left out, and a pickle's labels
            count these. Defaults to None, all categories.
        images (str, optional): Folder of the images, or a file of their
            sizes, for YOLO labels. Defaults to None.
        names (str, optional): File of class names, for YOLO labels.
            Defaults to None.
        **options: See :class:`EvaluationOptions`.

    Returns:
        FileEvaluation: The figures.

    Raises:
        UserError: If a file, a record or an option is wrong.
    """
    ground_truth, detections, _ = load_annotations_and_results(
        ground_truth_path, results_path, class_names, images, names)
    report = evaluate_detections(ground_truth, detections, **options)
    return FileEvaluation(
        report, dict(ground_truth=ground_truth_path, results=results_path))
