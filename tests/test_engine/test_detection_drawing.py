"""Pictures of detections show the detector's names, and masks if wanted."""
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from tcal_det.engine.detection_drawing import DetectionDrawer

METAINFO = dict(
    classes=('a', 'b', 'c'), palette=[(250, 0, 0), (0, 250, 0), (0, 0, 250)])


@pytest.fixture
def image():
    return np.full((80, 120, 3), 128, np.uint8)


def sample_of(labels, role='pred', with_masks=False):
    """A detection (or an object) at the left, one at the right."""
    instances = InstanceData(
        bboxes=torch.tensor([[10.0, 20, 50, 60], [70, 20, 110, 60]]),
        labels=torch.tensor(labels))
    if role == 'pred':
        instances.scores = torch.tensor([0.9, 0.8])
    sample = DetDataSample()
    if with_masks:
        instances.masks = torch.zeros(2, 80, 120, dtype=torch.bool)
        instances.masks[:, 25:55, 15:45] = True
        setattr(sample, f'{role}_sem_seg',
                PixelData(sem_seg=torch.ones(1, 80, 120, dtype=torch.long)))
    setattr(sample, f'{role}_instances', instances)
    return sample


def painted(painter, image, sample, role='pred', names=None):
    if role == 'gt':
        return painter.ground_truth(image, sample)
    return painter.detections(image, sample, names)


@pytest.mark.parametrize('role', ['gt', 'pred'])
def test_masks_can_be_left_out(image, role):
    sample = sample_of([0, 1], role, with_masks=True)
    with_masks, boxes = (
        painted(DetectionDrawer(METAINFO, 0.5, wanted), image, sample, role)
        for wanted in (True, False))
    expected = painted(
        DetectionDrawer(METAINFO, 0.5, True), image, sample_of([0, 1], role),
        role)
    assert np.array_equal(boxes, expected)
    assert not np.array_equal(boxes, with_masks)
    assert not np.array_equal(boxes, image)
    # What was given still has its masks.
    assert 'masks' in sample.get(f'{role}_instances')
    assert f'{role}_sem_seg' in sample


def test_detector_of_another_order_is_painted_under_its_own_names(image):
    painter = DetectionDrawer(METAINFO, 0.5, True)
    expected = painted(painter, image, sample_of([0, 2]))
    turned = painted(painter, image, sample_of([1, 0]), names=('c', 'a', 'b'))
    assert np.array_equal(turned, expected)
    assert not np.array_equal(
        painted(painter, image, sample_of([1, 0])), turned)


def test_detector_of_more_classes_than_the_data_set(image):
    """Its first class is the data set's second; the others have a colour."""
    painter = DetectionDrawer(METAINFO, 0.5, True)
    names = ('b', *(f'class of its own {index}' for index in range(80)))
    assert np.array_equal(
        painted(painter, image, sample_of([0, 0]), names=names),
        painted(painter, image, sample_of([1, 1])))
    many = painted(painter, image, sample_of([0, 80]), names=names)
    assert not np.array_equal(many, image)


def test_class_beyond_the_names_has_its_number(image):
    painter = DetectionDrawer(METAINFO, 0.5, True)
    unnamed = painted(painter, image, sample_of([0, 4]))
    named = ('a', 'b', 'c', 'class 3', 'class 4')
    assert np.array_equal(
        unnamed, painted(painter, image, sample_of([0, 4]), names=named))


def test_scores_up_to_the_threshold_are_left_out(image):
    painter = DetectionDrawer(METAINFO, 0.85, True)
    picture = painted(painter, image, sample_of([0, 1]))
    assert not np.array_equal(picture[:, :60], image[:, :60])
    assert np.array_equal(picture[:, 64:], image[:, 64:])
