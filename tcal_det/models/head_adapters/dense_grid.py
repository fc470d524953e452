"""Positions and sizes of the priors of a dense head."""
from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from torch import Tensor


class DenseGrid:
    """Strides and anchors of a dense head.

    Args:
        head (nn.Module): Dense head with anchors or points.

    Attributes:
        strides (list[tuple[int, int]]): Horizontal and vertical stride of
            each level, in pixels.
        num_priors (list[int]): Number of priors per cell, for each level.
        anchors (list[Tensor]): Anchors of a cell for each level, shape
            (A, 4); None for a level of points.
        offset (float): Position of a prior in its cell, as a fraction of the
            cell.
    """

    def __init__(self, head: nn.Module) -> None:
        # SABL keeps its anchors, which are squares, in another attribute.
        generator = getattr(head, 'prior_generator',
                            None) or head.square_anchor_generator
        self.strides: List[Tuple[int, int]] = [
            tuple(stride) for stride in generator.strides
        ]
        self.num_priors = list(generator.num_base_priors)
        self.anchors: Sequence[Optional[Tensor]] = getattr(
            generator, 'base_anchors', [None] * len(self.strides))
        self.offset: float = getattr(generator, 'center_offset',
                                     getattr(generator, 'offset', 0.0))

    def reason_against(self, student: 'DenseGrid') -> Optional[str]:
        """Explain why this grid of a teacher lacks priors of the student's.

        Args:
            student (DenseGrid): Grid of the student.

        Returns:
            str, optional: Reason for a message; None if it has all of them.
        """
        missing = [
            stride for stride in student.strides if stride not in self.strides
        ]
        if missing:
            return (f'must have maps of the same strides, but the teacher has '
                    f'{self.strides} and the student {student.strides}: '
                    'choose a teacher with the strides of the student')
        for level, stride in enumerate(student.strides):
            index = self.strides.index(stride)
            counts = self.num_priors[index], student.num_priors[level]
            if counts[0] != counts[1]:
                return ('must have the same number of priors in a cell, but '
                        f'at stride {stride} the teacher has {counts[0]} '
                        f'and the student {counts[1]}: choose a teacher with '
                        'the anchors of the student')
            anchors = self.anchors[index], student.anchors[level]
            if counts[0] > 1 and None not in anchors and not torch.allclose(
                    *anchors):
                teacher_sizes, student_sizes = map(_sizes_as_text, anchors)
                return (
                    'must have the same anchors in the same order, but at '
                    f'stride {stride} the teacher has {teacher_sizes} and the '
                    f'student {student_sizes}: change `anchor_generator`')
        return None


def _sizes_as_text(anchors: Tensor) -> str:
    """Format the sizes of the first three anchors of a cell for a message."""
    sizes = (anchors[:, 2:] - anchors[:, :2]).tolist()
    shown = ', '.join(f'{width:.3g}x{height:.3g}'
                      for width, height in sizes[:3])
    return f'[{shown}{", ..." if len(sizes) > 3 else ""}]'
