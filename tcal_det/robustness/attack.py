"""Attacks that change the pixels of images along the gradient of a loss.

Shapes:
    H, W: height and width of an image, which can differ within a batch
"""
from typing import Callable, List, Optional, Sequence

import torch
from torch import Tensor

Images = List[Tensor]
Loss = Callable[[Images], Tensor]

# Ten steps of a quarter of epsilon, see :func:`pgd`.
NUM_STEPS = 10
STEPS_TO_THE_EDGE = 4
HIGHEST_PIXEL = 255.0


def fgsm(loss_of: Loss, images: Images, epsilon: float,
         masks: Sequence[Tensor]) -> Images:
    r"""Fast gradient sign method: one step of the largest allowed change.

    .. math:: x + \epsilon \, \mathrm{sign}(\nabla_x L(x))

    Args:
        loss_of (Callable): Function from images to a scalar loss.
        images (list[Tensor]): Images with pixels in [0, 255], float, shape
            (C, H, W) each; not changed.
        epsilon (float): Largest change of a pixel, in [0, 255].
        masks (Sequence[Tensor]): Mask of the pixels of each image that can
            change, boolean, of a shape that broadcasts to that of the image.

    Returns:
        list[Tensor]: Attacked images with pixels in [0, 255], not rounded,
        without gradient.

    Reference:
        Goodfellow et al., "Explaining and Harnessing Adversarial Examples",
        ICLR 2015, section 4.
    """
    return ascend(loss_of, images, epsilon, epsilon, 1, masks)


def pgd(loss_of: Loss, images: Images, epsilon: float, masks: Sequence[Tensor],
        seeds: Sequence[int]) -> Images:
    """Projected gradient descent from a random start.

    The start of an image is uniform within the allowed changes and depends
    only on the seed of the image.

    Interpretation:
        Ten steps of epsilon / 4, because the paper chooses number and size of
        the steps for each data set.

    Args:
        loss_of (Callable): Function from images to a scalar loss.
        images (list[Tensor]): Images as in :func:`fgsm`; not changed.
        epsilon (float): Largest change of a pixel, in [0, 255].
        masks (Sequence[Tensor]): Masks as in :func:`fgsm`.
        seeds (Sequence[int]): Random seed of each image, in [0, 2**32).

    Returns:
        list[Tensor]: Attacked images as in :func:`fgsm`.

    Reference:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial
        Attacks", ICLR 2018, Eq. 3.
    """
    starts = []
    for image, seed in zip(images, seeds):
        # Drawn on the CPU, so that the start is the same on all devices.
        uniform = torch.rand(
            image.shape, generator=torch.Generator().manual_seed(seed))
        starts.append(epsilon * (2 * uniform.to(image) - 1))
    return ascend(loss_of, images, epsilon, epsilon / STEPS_TO_THE_EDGE,
                  NUM_STEPS, masks, starts)


def ascend(loss_of: Loss,
           images: Images,
           epsilon: float,
           step: float,
           num_steps: int,
           masks: Sequence[Tensor],
           starts: Optional[Sequence[Tensor]] = None) -> Images:
    """Take steps along the sign of the gradient, within the allowed changes.

    A pixel whose gradient is NaN does not change in this step.

    Args:
        loss_of (Callable): Function from images to a scalar loss.
        images (list[Tensor]): Images with pixels in [0, 255], float, shape
            (C, H, W) each; not changed.
        epsilon (float): Largest change of a pixel over all steps.
        step (float): Change of a pixel in one step.
        num_steps (int): Number of steps.
        masks (Sequence[Tensor]): Mask of the pixels of each image that can
            change, boolean.
        starts (Sequence[Tensor], optional): Change of each image before the
            first step. Defaults to None, no change.

    Returns:
        list[Tensor]: Attacked images with pixels in [0, 255], without
        gradient.
    """

    def changed(points, changes):
        return [
            torch.where(mask, _projected(point + change, image, epsilon),
                        image) for point, change, image, mask in zip(
                            points, changes, images, masks)
        ]

    points = images if starts is None else changed(images, starts)
    for _ in range(num_steps):
        points = [point.detach().requires_grad_() for point in points]
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss_of(points), points)
        points = changed([point.detach() for point in points], [
            step * torch.nan_to_num(gradient.sign()) for gradient in gradients
        ])
    return points


def _projected(point: Tensor, image: Tensor, epsilon: float) -> Tensor:
    nearest = torch.minimum(
        torch.maximum(point, image - epsilon), image + epsilon)
    return nearest.clamp(0, HIGHEST_PIXEL)
