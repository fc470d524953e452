"""The corruptions of COCO-C, the same for an image at any time."""
import sys
from types import ModuleType

import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.robustness.corruption import (ImageCorruption, check_image_sizes,
                                            check_imagecorruptions,
                                            corrupt_image)
from tcal_det.robustness.options import CORRUPTIONS, SEVERITIES

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)


@pytest.fixture
def imagecorruptions():
    return pytest.importorskip('imagecorruptions')


def loaded(image_id, image=IMAGE):
    return dict(img=image.copy(), img_id=image_id)


def test_names_are_those_of_the_package(imagecorruptions):
    assert list(CORRUPTIONS) == imagecorruptions.get_corruption_names('common')


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_follows_from_the_seed_alone(imagecorruptions, name):
    image = IMAGE.copy()
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    first = corrupt_image(image, name, 3, 11)
    assert (np.random.get_state()[1] == state).all()
    assert (image == IMAGE).all()
    np.random.seed(6)
    assert (corrupt_image(image, name, 3, 11) == first).all()
    assert first.shape == IMAGE.shape and first.dtype == np.uint8
    assert (first != IMAGE).any()


@pytest.mark.parametrize(
    'name', ['gaussian_noise', 'impulse_noise', 'glass_blur', 'snow', 'frost'])
def test_another_seed_gives_another_image(imagecorruptions, name):
    assert (corrupt_image(IMAGE, name, 3, 11)
            != corrupt_image(IMAGE, name, 3, 12)).any()


def test_gaussian_noise_by_its_formula(imagecorruptions):
    """Standard deviation 0.08 of the range at severity 1, 0.38 at 5."""
    for severity, deviation in ((1, 0.08), (5, 0.38)):
        noise = np.random.RandomState(11).normal(
            size=IMAGE.shape, scale=deviation)
        expected = np.uint8(np.clip(IMAGE / 255 + noise, 0, 1) * 255)
        assert (corrupt_image(IMAGE, 'gaussian_noise', severity,
                              11) == expected).all()


def test_contrast_by_its_formula(imagecorruptions):
    """The distance from the mean of each channel, times 0.4."""
    mean = IMAGE.mean(axis=(0, 1)) / 255
    expected = (IMAGE / 255 - mean) * 0.4 + mean
    corrupted = corrupt_image(IMAGE, 'contrast', 1, 0)
    assert np.abs(corrupted - 255 * expected).max() <= 1


def test_severity_0_is_the_image_itself():
    assert corrupt_image(IMAGE, 'fog', 0, 0) is IMAGE


def test_floats_stay_floats(imagecorruptions):
    corrupted = corrupt_image(IMAGE.astype(np.float32), 'pixelate', 2, 0)
    assert corrupted.dtype == np.float32
    assert (corrupted == corrupt_image(IMAGE, 'pixelate', 2, 0)).all()


class TestStep:

    def test_at_first_it_does_nothing(self):
        results = loaded(1)
        assert ImageCorruption(0)(results)['img'] is results['img']

    def test_order_of_the_images_makes_no_difference(self, imagecorruptions):

        def corrupted(image_ids):
            step = ImageCorruption(0)
            step.choose('shot_noise', 2)
            return {key: step(loaded(key))['img'] for key in image_ids}

        forwards, backwards = corrupted([1, 2, 'c']), corrupted(['c', 2, 1])
        for key, image in forwards.items():
            assert (image == backwards[key]).all()
        # And each image has a draw of its own.
        assert (forwards[1] != forwards[2]).any()

    def test_severities_share_their_random_numbers(self, imagecorruptions):
        """Impulses of a lower severity are among those of a higher one."""
        step = ImageCorruption(0)
        changed = []
        for severity in SEVERITIES:
            step.choose('gaussian_noise', severity)
            grey = np.full((40, 52, 3), 127, np.uint8)
            noise = step(loaded(1, grey))['img'].astype(int) - 127
            changed.append(np.sign(noise))
        for lower, higher in zip(changed, changed[1:]):
            # Rounding takes a small noise away, and turns none round.
            assert (lower * higher >= 0).all()

    def test_seed(self, imagecorruptions):
        images = []
        for seed in (0, 1):
            step = ImageCorruption(seed)
            step.choose('gaussian_noise', 1)
            images.append(step(loaded(1))['img'])
        assert (images[0] != images[1]).any()

    def test_images_without_id_are_told_apart_by_their_path(
            self, imagecorruptions):
        step = ImageCorruption(0)
        step.choose('gaussian_noise', 1)
        first, second = (
            step(dict(img=IMAGE.copy(), img_path=path))['img']
            for path in ('a.png', 'b.png'))
        assert (first != second).any()


class TestChecks:

    def test_installed(self, imagecorruptions):
        check_imagecorruptions()

    def test_missing_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'imagecorruptions.corruptions', None)
        monkeypatch.setitem(sys.modules, 'imagecorruptions', None)
        with pytest.raises(
                InvalidValueError,
                match='pip install imagecorruptions-imaug numpy=='):
            check_imagecorruptions()

    def test_another_package_of_that_name(self, monkeypatch):
        package = ModuleType('imagecorruptions')
        package.corruptions = ModuleType('imagecorruptions.corruptions')
        package.corruptions.impulse_noise = lambda x, severity=1: x
        for module in (package, package.corruptions):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        with pytest.raises(
                InvalidValueError, match='pip uninstall imagecorruptions'):
            check_imagecorruptions()

    def test_small_images(self):
        check_image_sizes([dict(width=32, height=32), dict(img_path='c.png')])
        with pytest.raises(
                InvalidValueError, match=r"'b.png' is 64 x 31: leave it out"):
            check_image_sizes([
                dict(width=32, height=32),
                dict(width=64, height=31, img_path='b.png', img_id=2)
            ])
