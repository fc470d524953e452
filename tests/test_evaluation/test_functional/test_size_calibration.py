import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (BinGrid,
                                            detection_calibration_error,
                                            match_detections)
from tcal_det.evaluation.functional.size_calibration import (
    calibration_error_by_size, size_dependent_calibration_error)
from tests.test_evaluation.test_functional.golden_files import (load_golden,
                                                                load_scene)

IGNORE_COVERAGE = pytest.mark.filterwarnings(
    'ignore:only .* of the detections')


def with_areas(matches, areas):
    boxes = np.zeros((len(areas), 4))
    boxes[:, 2], boxes[:, 3] = areas, 1
    return replace(matches, boxes=boxes)


def test_cells_of_width_and_height_by_hand(few_matches):
    # Sides .1 (scores .9 right, .2 right), .5 (.7 wrong), .05 (.3 wrong): in
    # 4 bins of each the small ones part by score, .2 and .3 as well.
    error = size_dependent_calibration_error(few_matches, 4, min_samples=1)
    assert error.ece == pytest.approx((.1 + .8 + .7 + .3) / 4)
    assert error.coverage == 1
    assert error.bins.features == ('score', 'w', 'h')
    assert error.bins.count[3, 0, 0] == error.bins.count[2, 1, 1] == 1
    # Score in one bin: .9, .2 and .3 against 2/3.
    error = size_dependent_calibration_error(
        few_matches, (1, 4, 4), min_samples=1)
    assert error.ece == pytest.approx((3 * (2 / 3 - 1.4 / 3) + .7) / 4)
    error = size_dependent_calibration_error(
        few_matches, (1, 4, 4), min_samples=3)
    assert error.ece == pytest.approx(.2 * 3 / 4)
    assert error.coverage == .75


@IGNORE_COVERAGE
@pytest.mark.parametrize('scene', ['det_small', 'det_ties'])
def test_netcal(scene):
    """The defaults are the paper's grid, whose value netcal gave."""
    matches = match_detections(*load_scene(scene), 0.5)
    netcal = load_golden(scene)['reference']['netcal']
    error = size_dependent_calibration_error(matches, closed='left')
    assert error.ece == pytest.approx(
        netcal['conf_w_h_b8_min8'], rel=0, abs=1e-12)


def test_unknown_image_sizes(few_matches):
    unknown = replace(few_matches, image_sizes=np.full((6, 2), np.nan))
    with pytest.raises(InvalidValueError, match='width and height of every'):
        size_dependent_calibration_error(unknown)
    assert calibration_error_by_size(unknown).ece > 0


def test_by_size_by_hand(few_matches):
    # 31.99^2 and 32^2: the edge belongs to medium, 96^2 to large.
    matches = with_areas(few_matches, [1024, 1023.9, 1, 9215.9, 9216, 5000])
    by_size = calibration_error_by_size(matches)
    small, medium, large = by_size.errors
    assert [error.num_samples for error in by_size.errors] == [1, 2, 1]
    assert small.ece == small.over == pytest.approx(.7)
    assert medium.ece == medium.under == pytest.approx((.1 + .8) / 2)
    assert large.ece == large.over == pytest.approx(.3)
    assert by_size.ece == pytest.approx((.7 + .9 + .3) / 4)
    assert by_size.sizes == ('small', 'medium', 'large')
    assert medium.per_class[0].ece == pytest.approx(.45)


def test_sizes_without_detections_are_nan_and_no_part(few_matches):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        by_size = calibration_error_by_size(few_matches)
    assert math.isnan(by_size.errors[2].ece)
    assert by_size.ece == pytest.approx((.1 + .8 + .3 + .7) / 4)
    with pytest.warns(UserWarning, match='D-ECE by size is NaN'):
        nothing = calibration_error_by_size(few_matches.above(1.))
    assert math.isnan(nothing.ece)


@pytest.mark.parametrize('closed', ['left', 'right'])
@pytest.mark.parametrize('num_bins', [5, 10])
def test_parts_never_fall_below_the_whole(num_bins, closed):
    """Splitting cells cannot lower D-ECE, and splits over - under."""
    matches = match_detections(*load_scene('det_small'), 0.5)
    areas = np.geomspace(100, 90000, len(matches.scores))
    matches = with_areas(matches, areas)
    pooled = detection_calibration_error(matches, num_bins, closed)
    by_size = calibration_error_by_size(matches, num_bins, closed)
    assert by_size.ece >= pooled.ece
    counts = np.array([error.num_samples for error in by_size.errors])
    bias = np.array([error.over - error.under for error in by_size.errors])
    assert counts.min() > 0 and counts.sum() == pooled.num_samples
    assert counts @ bias / counts.sum() == pytest.approx(pooled.over -
                                                         pooled.under)
    for part in ('count', 'closed'):
        np.testing.assert_equal(
            getattr(pooled.bins, part),
            closed if part == 'closed' else sum(error.bins.count
                                                for error in by_size.errors))


def test_json_form(few_matches):
    form = calibration_error_by_size(few_matches).to_dict()
    assert json.loads(json.dumps(
        form, allow_nan=True))['area_edges'] == [0, 1024, 9216, None]
    assert form['sizes'] == ['small', 'medium', 'large']
    assert len(form['errors']) == 3
    grid = size_dependent_calibration_error(few_matches, 2, min_samples=1)
    assert isinstance(grid.bins, BinGrid)
