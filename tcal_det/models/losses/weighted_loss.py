"""Base class of all losses in ``distill_losses``."""
import torch.nn as nn

from tcal_det.checks import check_non_negative


class WeightedLoss(nn.Module):
    """Base class of losses with a weight and a ``repr`` of their arguments.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Raises:
        InvalidTypeError: If ``loss_weight`` is not a number.
        InvalidValueError: If ``loss_weight`` is negative or not finite.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_non_negative('loss_weight', loss_weight)

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={value!r}'
                         for name, value in vars(self).items()
                         if not name.startswith('_') and name != 'training')
