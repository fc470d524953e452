"""Where the priors of a dense head are."""
from typing import List, Optional, Sequence, Tuple

import torch.nn as nn
from torch import Tensor


class DenseGrid:
    """Strides and anchors of a head.

    Args:
        head (nn.Module): One of anchors or points.

    Attributes:
        strides (list[tuple]): Of each level, horizontal and vertical.
        num_priors (list[int]): Priors of a cell, by level.
        anchors (list[Tensor]): Anchors of a cell, by level; None for points.
        offset (float): Place of a prior in its cell, in cells.
    """

    def __init__(self, head: nn.Module) -> None:
        # SABL has squares for its anchors.
        generator = getattr(head, 'prior_generator',
                            None) or head.square_anchor_generator
        self.strides: List[Tuple[int, int]] = [
            tuple(one) for one in generator.strides
        ]
        self.num_priors = list(generator.num_base_priors)
        self.anchors: Sequence[Optional[Tensor]] = getattr(
            generator, 'base_anchors', [None] * len(self.strides))
        self.offset: float = getattr(generator, 'center_offset',
                                     getattr(generator, 'offset', 0.0))


def anchors_as_text(anchors: Tensor) -> str:
    """Sizes of the first anchors of a cell, for a message.

    Args:
        anchors (Tensor): Corners, shape (A, 4).
    """
    sizes = (anchors[:, 2:] - anchors[:, :2]).tolist()
    shown = ', '.join(f'{width:.3g}x{height:.3g}'
                      for width, height in sizes[:3])
    return f'[{shown}{", ..." if len(sizes) > 3 else ""}]'
