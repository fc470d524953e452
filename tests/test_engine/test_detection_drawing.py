"""Pictures of detections show the detector's names, and masks if wanted."""
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData

from tcal_det.engine.detection_drawing import DetectionDrawer

METAINFO = dict(
    classes=('a', 'b', 'c'), palette=[(250, 0, 0), (0, 250, 0), (0, 0, 250)])


@pytest.fixture
def image():
    return np.full((240, 480, 3), 128, np.uint8)


def sample_of(labels, role='pred', with_masks=False, size=3):
    """A detection (or an object) at the left, one at the right."""
    instances = InstanceData(
        bboxes=size * torch.tensor([[10.0, 20, 50, 60], [70, 20, 110, 60]]),
        labels=torch.tensor(labels))
    if role == 'pred':
        instances.scores = torch.tensor([0.9, 0.8])
    sample = DetDataSample()
    if with_masks:
        shape = 80 * size, 160 * size
        instances.masks = torch.zeros(2, *shape, dtype=torch.bool)
        instances.masks[:, 25 * size:55 * size, 15 * size:45 * size] = True
        setattr(sample, f'{role}_sem_seg',
                PixelData(sem_seg=torch.ones(1, *shape, dtype=torch.long)))
    setattr(sample, f'{role}_instances', instances)
    return sample


def painted(drawer, image, sample, role='pred', names=None):
    if role == 'gt':
        return drawer.ground_truth(image, sample)
    return drawer.detections(image, sample, names)


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
    drawer = DetectionDrawer(METAINFO, 0.5, True)
    expected = painted(drawer, image, sample_of([0, 2]))
    turned = painted(drawer, image, sample_of([1, 0]), names=('c', 'a', 'b'))
    assert np.array_equal(turned, expected)
    assert not np.array_equal(
        painted(drawer, image, sample_of([1, 0])), turned)


def test_detector_of_more_classes_than_the_data_set(image):
    """Its first class is the data set's second; the others have a colour."""
    drawer = DetectionDrawer(METAINFO, 0.5, True)
    names = ('b', *(f'class of its own {index}' for index in range(80)))
    assert np.array_equal(
        painted(drawer, image, sample_of([0, 0]), names=names),
        painted(drawer, image, sample_of([1, 1])))
    many = painted(drawer, image, sample_of([0, 80]), names=names)
    assert not np.array_equal(many, image)


def test_class_beyond_the_names_has_its_number(image):
    drawer = DetectionDrawer(METAINFO, 0.5, True)
    unnamed = painted(drawer, image, sample_of([0, 4]))
    named = ('a', 'b', 'c', 'class 3', 'class 4')
    assert np.array_equal(
        unnamed, painted(drawer, image, sample_of([0, 4]), names=named))


def test_scores_up_to_the_threshold_are_left_out(image):
    drawer = DetectionDrawer(METAINFO, 0.85, True)
    picture = painted(drawer, image, sample_of([0, 1]))
    assert not np.array_equal(picture[:, :180], image[:, :180])
    assert np.array_equal(picture[:, 192:], image[:, 192:])


@pytest.fixture
def same_colours(monkeypatch):
    """The visualizer changes the colour of each mask by a random amount."""
    monkeypatch.setattr('mmdet.visualization.palette.np.random.rand',
                        lambda *shape: np.ones(shape))


@pytest.mark.usefixtures('same_colours')
@pytest.mark.parametrize('role', ['gt', 'pred'])
def test_small_image_is_painted_as_one_of_twice_its_size(role):
    drawer = DetectionDrawer(METAINFO, 0.5, True)
    small, large = (
        painted(drawer, np.full((80 * size, 160 * size, 3), 128, np.uint8),
                sample_of([0, 1], role, with_masks=True, size=size), role)
        for size in (1, 2))
    assert small.shape == (160, 320, 3)
    assert np.array_equal(small, large)


@pytest.mark.usefixtures('same_colours')
@pytest.mark.parametrize('kind', ['bitmaps', 'polygons'])
def test_masks_of_annotations_are_enlarged_with_their_image(kind):
    drawer = DetectionDrawer(METAINFO, 0.5, True)

    def picture(size):
        sample = sample_of([0, 1], 'gt', size=size)
        shape = 80 * size, 160 * size
        bitmaps = np.zeros((2, *shape), np.uint8)
        bitmaps[:, 25 * size:55 * size, 15 * size:45 * size] = 1
        corners = np.array([15.0, 25, 45, 25, 45, 55, 15, 55]) * size
        sample.gt_instances.masks = (
            BitmapMasks(bitmaps, *shape) if kind == 'bitmaps' else
            PolygonMasks([[corners], [corners]], *shape))
        return drawer.ground_truth(np.full((*shape, 3), 128, np.uint8), sample)

    assert np.array_equal(picture(1), picture(2))
