import numpy as np
import pytest

from tcal_det.evaluation.functional import DetectionMatches


@pytest.fixture
def few_matches():
    """Four detections that count, one ignored and one dropped; 3 classes.

    Class 0: scores .9 and .2 right, .7 wrong; class 1: .3 wrong; class 2:
    nothing that counts. Relative areas .01, .25, .01 and .0025.
    """
    status = np.array([1, 0, 2, 1, 0, 3], dtype=np.int8)
    sides = np.array([10., 50, 50, 10, 5, 10])
    return DetectionMatches(
        iou_thr=.5,
        scores=np.array([.9, .7, .6, .2, .3, .1]),
        class_index=np.array([0, 0, 2, 0, 1, 2]),
        boxes=np.stack((np.zeros(6), np.zeros(6), sides, sides), axis=1),
        image_sizes=np.full((6, 2), 100.),
        status=status,
        iou=np.where(status == 1, .75, 0),
        object_index=np.where(status == 1, 0, -1),
        num_objects=np.array([3, 1, 2]))
