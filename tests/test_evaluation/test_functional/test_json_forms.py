"""Each result's ``to_dict`` holds its attributes under their names."""
import dataclasses
import json
import warnings

import numpy as np
import pytest

from tcal_det.evaluation import functional
from tests.test_evaluation.test_functional.golden_files import load_scene

PROBS = [[.8, .2], [.4, .6], [.3, .7]]
LABELS = [0, 1, 0]


def plain(value):
    """What JSON can hold of a value."""
    if hasattr(value, 'to_dict'):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value


def attributes_of(result):
    return {
        field.name: plain(getattr(result, field.name))
        for field in dataclasses.fields(result)
    }


def matches():
    return functional.match_detections(*load_scene('det_small'), 0.1)


def grid():
    return functional.detection_calibration_error(
        matches(), [2, 3], closed='left', features=['cx']).bins


@pytest.mark.parametrize('result, more', [
    (functional.calibration_error([.5, .9], [1, 0], 2,
                                  closed='left'), ['num_samples']),
    (functional.classwise_calibration_error(PROBS, LABELS, 3), []),
    (functional.adaptive_calibration_error(PROBS, LABELS, 2), []),
    (functional.detection_calibration_error(matches(),
                                            4), ['num_samples', 'class_mean']),
    (functional.laece(matches(), 5), []),
    (functional.BinTable.merge(
        [functional.calibration_error([.5, .9], [1, 0], 2).bins]), []),
    (grid(), []),
])
def test_attributes_stand_under_their_names(result, more):
    document = result.to_dict()
    np.testing.assert_equal(
        document,
        dict(
            attributes_of(result),
            **{name: getattr(result, name)
               for name in more}))
    json.dumps(document)


def test_closed_side_is_kept():
    assert grid().closed == grid().to_dict()['closed'] == 'left'


@pytest.mark.parametrize('figure', [functional.lrp, functional.olrp])
def test_lrp_has_means_and_classes(figure):
    error = figure(matches())
    document = error.to_dict()
    means, classes = {}, attributes_of(error)
    iou_thr = classes.pop('iou_thr')
    for name in ('lrp', 'loc', 'fp', 'fn'):
        means[name] = np.nanmean(classes[name])
    np.testing.assert_equal(document.pop('per_class'), classes)
    assert document.pop('iou_thr') == iou_thr == 0.1
    assert document == pytest.approx(means, rel=1e-14)
    json.dumps(document)


def test_report_names_what_stands_where():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        report = functional.evaluate_detections(*load_scene('det_small'))
    document = report.to_dict()
    assert set(document) == {
        'settings', 'counts', 'overall', 'per_class', 'bins'
    }
    for name in ('settings', 'counts', 'overall', 'per_class'):
        np.testing.assert_equal(document[name], getattr(report, name))
    assert [tables['category_id'] for tables in document['bins']['per_class']
            ] == [row['category_id'] for row in report.per_class]
    assert document['settings'] is not report.settings
    for name, table in report.bins.items():
        assert isinstance(table, (functional.BinTable, functional.BinGrid))
        np.testing.assert_equal(document['bins']['overall'][name],
                                attributes_of(table))
    json.dumps(document)
