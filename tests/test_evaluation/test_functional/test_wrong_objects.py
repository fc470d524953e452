"""An object of another kind is named, with the function that makes one."""
import pytest

from tcal_det.errors import InvalidTypeError
from tcal_det.evaluation import functional
from tcal_det.evaluation.bootstrap import bootstrap_figures
from tcal_det.evaluation.slices import slice_by
from tcal_det.recalibration import fit_recalibration
from tcal_det.visualization import reliability_diagram

ANNOTATIONS = dict(
    images=[dict(id=7, width=100, height=100)],
    categories=[dict(id=1, name='cell')],
    annotations=[dict(image_id=7, category_id=1, bbox=[0, 0, 10, 10])])
RESULTS = [dict(image_id=7, category_id=1, bbox=[0, 0, 10, 10], score=.5)]
TRUTH = functional.ground_truth_from_coco(ANNOTATIONS)
FOUND = functional.detections_from_coco(RESULTS, TRUTH)
MATCHES = functional.match_detections(TRUTH, FOUND, .5)

OF_BOTH = dict(
    evaluate_detections=functional.evaluate_detections,
    match_detections=lambda truth, found: functional.match_detections(
        truth, found, .5),
    average_precision=functional.average_precision,
    object_calibration_error=functional.object_calibration_error,
    error_split=lambda truth, found: functional.error_split(
        truth, found, MATCHES),
    bootstrap_figures=bootstrap_figures,
    slice_by=lambda truth, found: slice_by({7: 'day'}, truth, found),
    fit_recalibration=lambda truth, found: fit_recalibration(
        truth, found, ANNOTATIONS['categories']))
OF_MATCHES = [
    functional.detection_calibration_error,
    functional.size_dependent_calibration_error,
    functional.calibration_error_by_size,
    functional.detection_debiased_calibration_error,
    functional.detection_smooth_calibration_error,
    functional.detection_brier_score_decomposition,
    functional.laece,
    functional.laace,
    functional.lrp,
    functional.olrp,
    lambda matches: functional.recall_thresholds(TRUTH, matches),
    lambda matches: functional.precision_thresholds(FOUND, matches),
    lambda matches: functional.error_split(TRUTH, FOUND, matches),
]


@pytest.mark.parametrize('name', OF_BOTH)
def test_content_of_files(name):
    with pytest.raises(
            InvalidTypeError,
            match='^`ground_truth` must be a GroundTruth, but got a dict; '
            'convert annotations by ground_truth_from_coco$'):
        OF_BOTH[name](ANNOTATIONS, FOUND)
    with pytest.raises(
            InvalidTypeError,
            match='^`detections` must be a Detections, but got a list; '
            'convert results by detections_from_coco$'):
        OF_BOTH[name](TRUTH, RESULTS)


@pytest.mark.parametrize('name', OF_BOTH)
def test_exchanged_arguments(name):
    with pytest.raises(
            InvalidTypeError, match='`ground_truth` .* but got a Detections'):
        OF_BOTH[name](FOUND, TRUTH)


@pytest.mark.parametrize('measure', OF_MATCHES)
@pytest.mark.parametrize('given', [FOUND, TRUTH, None])
def test_detections_that_are_not_matched(measure, given):
    with pytest.raises(
            InvalidTypeError,
            match='^`matches` must be a DetectionMatches, but got a '
            f'{type(given).__name__}; match detections by match_detections$'):
        measure(given)


def test_results_need_converted_annotations():
    message = '`ground_truth` must be a GroundTruth, but got a dict'
    with pytest.raises(InvalidTypeError, match=message):
        functional.detections_from_coco(RESULTS, ANNOTATIONS)
    result = dict(boxes=[[0, 0, 1, 1]], scores=[.5], labels=[1])
    with pytest.raises(InvalidTypeError, match=message):
        functional.Detections.from_torchvision([result], [7], ANNOTATIONS)


def test_diagrams_need_bins_of_the_score():
    error = functional.detection_calibration_error(MATCHES)
    reliability_diagram(error.bins)
    with pytest.raises(
            InvalidTypeError,
            match='^`bins` must be a BinTable, but got a '
            'DetectionCalibrationError; pass `.bins`'):
        reliability_diagram(error)
    grid = functional.detection_calibration_error(MATCHES, features=['cx'])
    with pytest.raises(InvalidTypeError, match='got a BinGrid.*score alone'):
        reliability_diagram(grid.bins)
