"""Measure results files and write their report."""
import os.path as osp
from dataclasses import replace
from typing import Any, Mapping, Optional, Sequence

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import Detections, GroundTruth
from tcal_det.fileio import make_output_folder, write_text_atomically
from .contents import page_contents
from .measurement import measure
from .page import check_requirements, render_page


def prepare_report(path: str, argument: str) -> None:
    """Check, before any work, that a page can be written.

    Args:
        path (str): Path of the HTML file; its folder is created.
        argument (str): Name of the argument in error messages, e.g.
            '`--out`'.

    Raises:
        InvalidValueError: If the suffix is not .html or .htm, a package is
            missing, or the folder cannot be created.
    """
    if not path.lower().endswith(('.html', '.htm')):
        raise InvalidValueError(
            f'{argument} must end in .html, but got {path!r}')
    check_requirements()
    make_output_folder(osp.dirname(osp.abspath(path)))


def write_report(
        path: str,
        ground_truth: GroundTruth,
        results: Mapping[str, Detections],
        image_files: Optional[Mapping[Any, str]] = None,
        title: str = 'Detector calibration report',
        num_resamples: int = 500,
        seed: int = 0,
        num_images: int = 6,
        data_warnings: Optional[Mapping[str,
                                        Sequence[Warning]]] = None) -> None:
    """Measure detections and write one self-contained HTML page.

    Args:
        path (str): Path of the HTML file; an existing file is replaced only
            when the new one is complete.
        ground_truth (GroundTruth): Annotated objects.
        results (Mapping[str, Detections]): Detections of each results file,
            at least one, by the name on the page. The others are compared
            with the first.
        image_files (Mapping[Any, str], optional): Path of each image by its
            id. Defaults to None, no pictures.
        title (str): Title of the page. Defaults to 'Detector calibration
            report'.
        num_resamples (int): Number of bootstrap samples of the images for the
            95 % intervals, at least 40; 0 for no intervals. Defaults to 500.
        seed (int): Random seed of the bootstrap samples and of the halves
            for the estimate of recalibration. Defaults to 0.
        num_images (int): Maximum number of pictures of each kind for each
            results file. Defaults to 6.
        data_warnings (Mapping[str, Sequence[Warning]], optional): Warnings of
            the data by the name of the results file, which the page shows
            first. With an ``ImplausibleDataWarning`` it recommends no
            recalibration. Defaults to None.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range, a package is
            missing, or the file cannot be written.
        MissingFileError: If an image does not exist.
    """
    if not results:
        raise InvalidValueError(
            '`results` must hold at least one results file, but is empty')
    check_count('num_resamples', num_resamples, 0)
    check_count('seed', seed, 0)
    check_count('num_images', num_images, 0)
    check_requirements()
    measurements = measure(ground_truth, results, num_resamples, seed)
    if data_warnings:
        measurements = [
            replace(
                measurement,
                data_warnings=tuple(data_warnings.get(measurement.name, ())))
            for measurement in measurements
        ]
    contents = page_contents(title, ground_truth, measurements, image_files,
                             num_images, num_resamples, seed)
    write_text_atomically(path, render_page(contents))
