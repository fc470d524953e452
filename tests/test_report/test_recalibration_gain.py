"""Cross-fitting: no detection is mapped by what was fitted to its image."""
import numpy as np
import pytest

from tcal_det.evaluation.functional import evaluate_detections
from tcal_det.report import recalibration_gain
from tcal_det.report.recalibration_gain import best_gain, cross_fitted_gains
from tests.test_report.report_scenes import make_scene


@pytest.fixture(scope='module')
def overconfident():
    """60 images of 10 detections: a score s is right s squared of the time."""
    rng = np.random.default_rng(1)
    objects, detections = [], []
    for image in range(60):
        for i in range(10):
            score = rng.uniform(0.05, 1)
            box = (20 * i, 0, 10, 10)
            detections.append((image, i % 2, box, score))
            if rng.random() < score**2:
                objects.append((image, i % 2, box))
    images = [dict(id=i, width=200, height=100) for i in range(60)]
    return make_scene(objects, detections, images=images)


class RecordingMap:
    """Gives each detection the number of fits; keeps what each was fitted to.
    """
    fits = []

    def __init__(self, number):
        self.number = number

    @classmethod
    def fit(cls, scores, targets):
        cls.fits.append(set(scores.tolist()))
        return cls(len(cls.fits) / 10)

    def __call__(self, scores):
        return np.full(len(scores), self.number)


def test_no_detection_is_mapped_by_its_own_half(overconfident, monkeypatch):
    monkeypatch.setattr(RecordingMap, 'fits', [])
    monkeypatch.setattr(recalibration_gain, 'SCORE_MAPS',
                        dict(recording=RecordingMap))
    monkeypatch.setattr(recalibration_gain, 'TARGETS', dict(precision=0.5))
    monkeypatch.setattr(recalibration_gain, '_ORDER_KEEPING',
                        dict(recording=RecordingMap))
    gain, _ = cross_fitted_gains(*overconfident)
    detections = overconfident[1]
    first, second = RecordingMap.fits[:2]
    # Scores are all different, so they tell detections apart.
    assert len(first | second) == len(detections) == 600
    assert not first & second
    for score, number in zip(detections.scores.tolist(), gain.scores):
        assert (score in second) == (number == 0.1)
        assert (score in first) == (number == 0.2)
    # Halves of images, not of detections.
    halves = gain.scores.reshape(60, 10)
    assert (halves == halves[:, :1]).all()
    assert (halves[:, 0] == 0.1).sum() == 30


def test_expected_gain_is_found(overconfident):
    before = evaluate_detections(*overconfident).overall
    gains = cross_fitted_gains(*overconfident)
    best = best_gain(gains, 'precision')
    # The mean of s - s^2 is 1/6; the noise of 600 detections stays.
    assert before['d_ece'] > 0.13
    assert best.value < 0.07
    assert best_gain(gains, 'precision_x_iou').value < before['laece_0']


def test_figures_are_those_of_an_evaluation(overconfident):
    ground_truth, detections = overconfident
    for gain in cross_fitted_gains(ground_truth, detections):
        mapped = type(detections)(detections.image_index,
                                  detections.class_index, detections.boxes,
                                  gain.scores)
        figures = evaluate_detections(ground_truth, mapped).overall
        key = dict(precision='d_ece', precision_x_iou='laece_0')[gain.target]
        assert gain.figure == key
        assert gain.value == pytest.approx(figures[key], abs=1e-12)


def test_kinds(overconfident):
    kinds = {(gain.target, gain.method, gain.classwise)
             for gain in cross_fitted_gains(*overconfident)}
    methods = {method for _, method, _ in kinds}
    assert {'temperature', 'platt', 'beta'} <= methods
    # It makes ties, and mAP falls.
    assert 'histogram' not in methods
    assert len(kinds) == 2 * 2 * len(methods)


def test_too_little_to_halve():
    box = (0, 0, 10, 10)
    assert cross_fitted_gains(
        *make_scene([(1, 0, box)], [(1, 0, box, 0.5)])) == []
    assert cross_fitted_gains(*make_scene([(1, 0, box)], [])) == []
    assert best_gain([], 'precision') is None


def test_large_halves_are_sampled(overconfident, monkeypatch):
    monkeypatch.setattr(recalibration_gain, '_MOST_TO_FIT', 50)
    monkeypatch.setattr(RecordingMap, 'fits', [])
    monkeypatch.setattr(recalibration_gain, '_ORDER_KEEPING',
                        dict(recording=RecordingMap))
    cross_fitted_gains(*overconfident)
    assert max(map(len, RecordingMap.fits)) == 50
