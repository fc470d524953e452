"""Positions and sizes of the priors of a dense head."""
from typing import List, Optional, Sequence, Tuple

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


def anchors_as_text(anchors: Tensor) -> str:
    """Format the sizes of the first three anchors of a cell for a message.

    Args:
        anchors (Tensor): Corners of the anchors, shape (A, 4).
    """
    sizes = (anchors[:, 2:] - anchors[:, :2]).tolist()
    shown = ', '.join(f'{width:.3g}x{height:.3g}'
                      for width, height in sizes[:3])
    return f'[{shown}{", ..." if len(sizes) > 3 else ""}]'
