"""Distance between the boxes of student and teacher for the same sample.

Shapes: N samples (RoIs, anchors or points).
"""
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from tcal_det.checks import check_choice
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from .box_loss import BoxLoss

DISTANCES = ('giou', 'l1')
SAMPLES = ('foreground', 'all')
# Smallest width or height, in pixels, that is used as a divisor.
LEAST_LENGTH = 1.0


def relative_l1(boxes: Tensor, reference: Tensor) -> Tensor:
    r"""Distance of corners, relative to the reference's width and height.

    .. math::
        \frac{1}{4} \Big(\frac{|x_1 - x_1'| + |x_2 - x_2'|}{w'} +
        \frac{|y_1 - y_1'| + |y_2 - y_2'|}{h'}\Big)

    Args:
        boxes (Tensor): Boxes as corners in pixels, shape (N, 4).
        reference (Tensor): Boxes with a prime in the formula, as corners in
            pixels, shape (N, 4). A width or height below 1 counts as 1.

    Returns:
        Tensor: Distance of each pair of boxes, shape (N,).

    Example:
        >>> boxes = torch.tensor([[0., 0., 20., 10.]])
        >>> relative_l1(boxes, torch.tensor([[0., 5., 10., 25.]]))
        tensor([0.5000])
    """
    extent = (reference[:, 2:] - reference[:, :2]).clamp(min=LEAST_LENGTH)
    return ((boxes - reference).abs() / extent.repeat(1, 2)).mean(dim=1)


@MODELS.register_module()
class BoxDistillationLoss(BoxLoss):
    r"""Distance between the predicted boxes of student and teacher.

    Both models regress a box from the same sample, a RoI or a prior, each
    with its own coder. The boxes are corners in pixels, not clipped to the
    image. The loss of a sample is

    - 'giou': :math:`1 - \mathrm{GIoU}`, in [0, 2];
    - 'l1': distance of the corners relative to the size of the teacher's box,
      see :func:`relative_l1`.

    The weight of a sample is the teacher's calibrated score, the largest
    probability of a foreground class: where a teacher is right in 9 of 10
    samples, its boxes have weight 0.9. The weighted sum is divided by the
    divisor of the student's classification loss: the number of sampled RoIs,
    or the number of positive priors. Samples for which the teacher's box has
    no area add nothing.

    Difference from the paper: teacher bounded regression (Chen et al.)
    teaches the student only where it is worse than its teacher; this bound is
    left out. The weight is prediction-guided (CrossKD), but with calibrated
    scores.

    Args:
        distance (str): Distance of two boxes, 'giou' or 'l1'. Defaults to
            'giou'.
        samples (str): Samples that enter the loss. 'foreground': samples
            assigned to an object, with the box of the assigned class. 'all':
            also background samples, with the box of the teacher's most
            probable class. Defaults to 'foreground'.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Reference:
        Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019,
        arXiv 1902.09630;
        Chen et al., "Learning Efficient Object Detection Models with
        Knowledge Distillation", NIPS 2017, section 3.3;
        Wang et al., "CrossKD", CVPR 2024, arXiv 2306.11369.
    """

    def __init__(self,
                 distance: str = 'giou',
                 samples: str = 'foreground',
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.distance = check_choice('distance', distance, DISTANCES)
        self.samples = check_choice('samples', samples, SAMPLES)

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        if student.shape[1:] != (4, ) or student.shape != teacher.shape:
            raise InvalidValueError(
                '`student` and `teacher` must have the same shape (N, 4), but '
                f'got {tuple(student.shape)} of the student and '
                f'{tuple(teacher.shape)} of the teacher')

    def per_sample_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.distance == 'giou':
            loss = generalized_box_iou_loss(student, teacher)
        else:
            loss = relative_l1(student, teacher)
        has_area = (teacher[:, 2:] > teacher[:, :2]).all(dim=1)
        return torch.where(has_area, loss, torch.zeros_like(loss))
