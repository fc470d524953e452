"""The teacher's images are those that its own data preprocessor makes."""
import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.model import ImgDataPreprocessor

from tcal_det.models.distillers.image_normalization import ImageRenormalization

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
# Each is smaller than the other in one direction.
SIZES = ((50, 70), (61, 33))


def raw_batch(sizes=SIZES):
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randint(
            0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in sizes
    ]
    samples = [
        DetDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        for size in sizes
    ]
    return dict(inputs=inputs, data_samples=samples)


def prepared_by(student, teacher, sizes=SIZES):
    """The student's batch, what is made of it, and the teacher's own."""
    student, teacher = (
        DetDataPreprocessor(**dict(IMAGENET, **arguments))
        for arguments in (student, teacher))
    data = student(raw_batch(sizes))
    renormalize = ImageRenormalization(student, teacher)
    return (data['inputs'], renormalize(data['inputs'], data['data_samples']),
            teacher(raw_batch(sizes))['inputs'])


@pytest.mark.parametrize('student_pad, teacher_pad', [
    (0, 0),
    (0, 114),
    (-1, 0.5),
])
def test_padding_to_the_right_and_at_the_bottom(student_pad, teacher_pad):
    """Both kinds occur: one image is wider, the other is higher."""
    _, ours, expected = prepared_by(
        dict(pad_value=student_pad),
        dict(mean=[0, 0, 0], std=[255, 255, 255], pad_value=teacher_pad))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert (ours[0, :, 50:] == teacher_pad).all()
    assert (ours[1, :, :, 33:] == teacher_pad).all()


@pytest.mark.parametrize('student_divisor, teacher_divisor', [(1, 32), (32, 1),
                                                              (16, 24),
                                                              (24, 16),
                                                              (32, 128)])
@pytest.mark.parametrize('statistics', [
    {},
    dict(mean=[103.53, 116.28, 123.675], std=[1, 1, 1], pad_value=7),
])
def test_teacher_with_another_pad_size_divisor(student_divisor,
                                               teacher_divisor, statistics):
    images, ours, expected = prepared_by(
        dict(pad_size_divisor=student_divisor),
        dict(pad_size_divisor=teacher_divisor, **statistics))
    assert images.shape != expected.shape == ours.shape
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)
    if not statistics:
        assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    'divisors, sizes',
    [
        ((32, 32), SIZES),
        # Other divisors that come to the same size.
        ((32, 64), ((64, 64), (33, 20))),
    ])
def test_same_preparation_passes_the_images_untouched(divisors, sizes):
    images, ours, _ = prepared_by(
        *(dict(pad_size_divisor=divisor) for divisor in divisors), sizes=sizes)
    assert ours is images


def test_equal_divisors_keep_what_batch_augments_padded():
    """A fixed batch size is the student's; the teacher sees it whole."""
    augmented = dict(
        pad_size_divisor=32,
        batch_augments=[
            dict(type='BatchFixedSizePad', size=(128, 128), pad_mask=False)
        ])
    student = DetDataPreprocessor(**IMAGENET, **augmented)
    teacher = DetDataPreprocessor(**IMAGENET, pad_size_divisor=32)
    data = student(raw_batch(), training=True)
    assert data['inputs'].shape[2:] == (128, 128)
    images = ImageRenormalization(student, teacher)(data['inputs'],
                                                    data['data_samples'])
    assert images is data['inputs']


@pytest.mark.parametrize('difference', [
    dict(pad_value=9),
    dict(mean=[0, 0, 0]),
    dict(std=[1, 1, 1]),
    dict(mean=None, std=None),
    dict(bgr_to_rgb=True),
])
def test_each_difference_alone_is_seen(difference):
    images, ours, expected = prepared_by({}, difference)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)
    assert not torch.equal(ours, images)


def test_without_samples_the_whole_batch_is_image():
    preprocessors = [
        DetDataPreprocessor(**IMAGENET, pad_size_divisor=divisor)
        for divisor in (1, 32)
    ]
    images = torch.rand(2, 3, 50, 70)
    ours = ImageRenormalization(*preprocessors)(images)
    assert torch.equal(ours, torch.nn.functional.pad(images, (0, 26, 0, 14)))


def test_only_one_of_two_normalises():
    mean, std = [10., 20., 30.], [2., 4., 5.]
    plain = ImgDataPreprocessor()
    normalising = ImgDataPreprocessor(mean=mean, std=std)
    images = torch.arange(3 * 2 * 2.).view(1, 3, 2, 2)
    normalised = (images - torch.tensor(mean).view(1, 3, 1, 1)) / (
        torch.tensor(std).view(1, 3, 1, 1))
    torch.testing.assert_close(
        ImageRenormalization(plain, normalising)(images), normalised)
    torch.testing.assert_close(
        ImageRenormalization(normalising, plain)(normalised), images)
    assert ImageRenormalization(plain, plain)(images) is images
