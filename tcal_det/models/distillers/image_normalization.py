"""Conversion of the student's normalised images to the teacher's."""
import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from torch import Tensor

from tcal_det.errors import InvalidTypeError

CHANNELS_REVERSED = (2, 1, 0)


def statistics_of(preprocessor: ImgDataPreprocessor) -> Tuple[Tensor, Tensor]:
    """Read mean and standard deviation of a data preprocessor.

    Args:
        preprocessor (ImgDataPreprocessor): Data preprocessor of a detector.

    Returns:
        tuple[Tensor, Tensor]: Mean and standard deviation of each channel, in
        pixel values from 0 to 255, float64, shape (3,); 0 and 1 if the
        preprocessor does not normalise.
    """
    if not preprocessor._enable_normalize:
        return torch.zeros(
            3, dtype=torch.float64), torch.ones(
                3, dtype=torch.float64)
    return (preprocessor.mean.double().cpu().flatten(),
            preprocessor.std.double().cpu().flatten())


class ImageRenormalization:
    r"""Affine map per channel between two data preprocessors' images.

    Inside each image, the channels are put in the teacher's order, and then
    :math:`x_t = (x_s \sigma_s + \mu_s - \mu_t) / \sigma_t`. The padding gets
    the teacher's padding value. If the ``pad_size_divisor`` differs, the batch
    is padded or cropped on the right and at the bottom to the size that the
    teacher's divisor gives; coordinates do not change. If both preprocessors
    treat images in the same way, the images are returned unchanged, bit for
    bit. The teacher's ``batch_augments`` are not applied, because they belong
    to its own training.

    Args:
        student (ImgDataPreprocessor): Preprocessor that made the images.
        teacher (ImgDataPreprocessor): Preprocessor whose normalisation the
            images should have.

    Raises:
        InvalidTypeError: If one of them is not an ImgDataPreprocessor.
    """

    def __init__(self, student: ImgDataPreprocessor,
                 teacher: ImgDataPreprocessor) -> None:
        for role, preprocessor in (('student', student), ('teacher', teacher)):
            if not isinstance(preprocessor, ImgDataPreprocessor):
                raise InvalidTypeError(
                    f'the {role} must have an ImgDataPreprocessor (mmdet\'s '
                    'DetDataPreprocessor is one) as `data_preprocessor`, but '
                    f'has a {type(preprocessor).__name__}')
        student_mean, student_std = statistics_of(student)
        teacher_mean, teacher_std = statistics_of(teacher)
        self.reverse_channels = (
            student._channel_conversion != teacher._channel_conversion)
        if self.reverse_channels:
            student_mean = student_mean.flip(0)
            student_std = student_std.flip(0)
        self.scale = (student_std / teacher_std).view(1, -1, 1, 1)
        self.shift = ((student_mean - teacher_mean) / teacher_std).view(
            1, -1, 1, 1)
        self.pad_value = float(teacher.pad_value)
        self.is_identity = (not self.reverse_channels and bool(
            (self.scale == 1).all()) and bool((self.shift == 0).all())
                            and student.pad_value == teacher.pad_value)
        self.pad_size_divisor: Optional[int] = None
        if student.pad_size_divisor != teacher.pad_size_divisor:
            self.pad_size_divisor = teacher.pad_size_divisor

    def __call__(self,
                 images: Tensor,
                 data_samples: Optional[list] = None) -> Tensor:
        """Renormalise and pad a batch.

        Args:
            images (Tensor): Input of the student, shape (N, 3, H, W).
            data_samples (list[DetDataSample], optional): Data samples, whose
                ``img_shape`` tells where the padding begins. Defaults to
                None, no padding.

        Returns:
            Tensor: Input of the teacher, shape (N, 3, H', W'); the given
            tensor itself if nothing changes.
        """
        return self._pad(self._normalize(images, data_samples), data_samples)

    def _normalize(self, images: Tensor,
                   data_samples: Optional[list]) -> Tensor:
        if self.is_identity:
            return images
        if self.reverse_channels:
            images = images[:, CHANNELS_REVERSED]
        images = (images * self.scale.to(images) + self.shift.to(images))
        for image, sample in zip(images, data_samples or ()):
            height, width = sample.img_shape[:2]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value
        return images

    def _pad(self, images: Tensor, data_samples: Optional[list]) -> Tensor:
        if self.pad_size_divisor is None:
            return images
        extents = [sample.img_shape[:2] for sample in data_samples or ()]
        heights, widths = zip(*(extents or [images.shape[2:]]))
        # A negative amount crops. This removes only padding of the student,
        # because all images fit into the teacher's size.
        bottom = self._padded(max(heights)) - images.shape[2]
        right = self._padded(max(widths)) - images.shape[3]
        if bottom == right == 0:
            return images
        return F.pad(images, (0, right, 0, bottom), value=self.pad_value)

    def _padded(self, size: int) -> int:
        return math.ceil(size / self.pad_size_divisor) * self.pad_size_divisor
