"""Attacks on the pixels of images, by the gradient of a loss.

Shape shorthand:
    H, W: height and width of an image, which differ within a batch
"""
from typing import Callable, List, Optional, Sequence

import torch
from torch import Tensor

Images = List[Tensor]
Loss = Callable[[Images], Tensor]

# Of Madry et al.: steps of a quarter of the way, ten of them.
NUM_STEPS = 10
STEPS_TO_THE_EDGE = 4
HIGHEST_PIXEL = 255.0


def fgsm(loss_of: Loss, images: Images, epsilon: float,
         masks: Sequence[Tensor]) -> Images:
    r"""Fast gradient sign method: one step to the edge of what is allowed.

    .. math:: x + \epsilon \, \mathrm{sign}(\nabla_x L(x))

    Args:
        loss_of (Callable): From images to a scalar.
        images (list[Tensor]): Pixels in [0, 255], float, shape (C, H, W)
            each; not changed.
        epsilon (float): Largest change of a pixel, in [0, 255].
        masks (Sequence[Tensor]): Where each image may be changed, boolean,
            of a shape that broadcasts to the image's.

    Returns:
        list[Tensor]: Pixels in [0, 255], not rounded, without gradient.

    Reference:
        Goodfellow et al., Explaining and Harnessing Adversarial Examples,
        ICLR 2015, section 4.
    """
    return ascend(loss_of, images, epsilon, epsilon, 1, masks)


def pgd(loss_of: Loss, images: Images, epsilon: float, masks: Sequence[Tensor],
        seeds: Sequence[int]) -> Images:
    """Projected gradient descent: ten steps of epsilon / 4 from anywhere.

    The start of an image is uniform in the allowed changes and depends on
    its own seed alone.

    Args:
        loss_of (Callable): As of :func:`fgsm`.
        images (list[Tensor]): As of :func:`fgsm`.
        epsilon (float): As of :func:`fgsm`.
        masks (Sequence[Tensor]): As of :func:`fgsm`.
        seeds (Sequence[int]): Random seed of each image, in [0, 2**32).

    Returns:
        list[Tensor]: As of :func:`fgsm`.

    Reference:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial
        Attacks, ICLR 2018, eq. 3. Reading taken: 10 steps of epsilon / 4,
        as the paper leaves both to the data set.
    """
    starts = []
    for image, seed in zip(images, seeds):
        # On the CPU, so that all devices start alike.
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
    """Steps along the sign of the gradient, inside a ball and the range.

    A pixel whose gradient is not a number stays where it is.

    Args:
        loss_of (Callable): From images to a scalar.
        images (list[Tensor]): Pixels in [0, 255], float, shape (C, H, W)
            each; not changed.
        epsilon (float): Largest change of a pixel: radius of the ball.
        step (float): Change of a pixel in a step.
        num_steps (int): Number of steps.
        masks (Sequence[Tensor]): Where each image may be changed, boolean.
        starts (Sequence[Tensor], optional): Change of each image before the
            first step. Defaults to None, no change.

    Returns:
        list[Tensor]: Pixels in [0, 255], without gradient.
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
        points = changed(
            [point.detach() for point in points],
            [step * torch.nan_to_num(one.sign()) for one in gradients])
    return points


def _projected(point: Tensor, image: Tensor, epsilon: float) -> Tensor:
    nearest = torch.minimum(
        torch.maximum(point, image - epsilon), image + epsilon)
    return nearest.clamp(0, HIGHEST_PIXEL)
