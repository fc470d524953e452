"""Loss weights measured from gradients, and a warning of too large terms.

The values of distillation terms differ by orders of magnitude, because of
their units, the number of channels or the number of samples. The sizes of
their gradients show the effect of a weight.
"""
import logging
import math
from typing import Any, Dict, List, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..logits import GRADIENT_SCALE
from .training_step import TrainingStep

Losses = Dict[str, Union[Tensor, List[Tensor]]]

AUTO = 'auto:'
# Number of steps in which a factor is measured, and in which terms are
# compared with the student's losses.
STEPS = 10
# A term is too large from this multiple of the student's own losses on.
LARGE = 20.0


def parse_loss_weight(where: str, weight: Any) -> Tuple[Any, bool]:
    """Parse the value of ``loss_weight`` in a config.

    Args:
        where (str): Config key of the loss, for the message.
        weight (Any): A string 'auto:r' with a ratio r > 0, or a weight, which
            the loss itself checks.

    Returns:
        tuple[Any, bool]: The ratio r or the weight; whether it is a ratio.

    Raises:
        InvalidValueError: If a string has another form.

    Example:
        >>> parse_loss_weight('distill_losses.loss_pkd', 'auto:0.5')
        (0.5, True)
    """
    if not isinstance(weight, str):
        return weight, False
    try:
        ratio = float(weight[len(AUTO):]) if weight.startswith(AUTO) else 0.0
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < math.inf:
        raise InvalidValueError(
            f"`{where}.loss_weight` must be a number or 'auto:r' with r > 0, "
            "the size of the term's gradient as a multiple of that of the "
            f"student's classification loss, e.g. 'auto:0.5', but got "
            f'{weight!r}')
    return ratio, True


class AutoWeight(nn.Module):
    r"""A factor that gives the gradient of a term the requested size.

    .. math::
        f = \exp\Big(\frac1n \sum_{i \le n} \log
        \frac{r\,\|g_{task,i}\|}{\|g_{term,i}\|}\Big)

    The gradients are those of the student's classification loss (task) and of
    the term, with respect to the tensors on which the term acts, e.g. logits
    or feature maps. The factor is measured in the first 10 steps. Each of
    these steps already uses the factor of the n steps measured until then,
    including itself. After them the factor is constant. Its state consists of
    buffers of the loss, and is saved and resumed together with the
    optimiser's state.

    Args:
        name (str): Key of the loss in ``distill_losses``.
        ratio (float): Ratio r of the sizes of the two gradients, > 0.
    """

    def __init__(self, name: str, ratio: float) -> None:
        super().__init__()
        self._name, self.ratio = name, ratio
        self.register_buffer('mean_log', torch.zeros(()))
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        # Cached, because reading the buffer `steps` waits for the GPU.
        self._is_measured = False
        self._num_failed = 0

    @property
    def factor(self) -> Tensor:
        """Factor of the term, a scalar."""
        return self.mean_log.exp()

    @property
    def is_measured(self) -> bool:
        """Whether the measurement is finished and the factor constant."""
        if not self._is_measured:
            self._is_measured = bool(self.steps >= STEPS)
        return self._is_measured

    def _warn_of_no_gradient(self) -> None:
        self._num_failed += 1
        if self._num_failed == STEPS:
            print_log(
                f'{self._name}: {AUTO}{self.ratio:g} could not be measured in '
                f'{STEPS} steps, as a gradient was 0 or not finite: the '
                f'loss_weight is still {float(self.factor):.4g}',
                'current',
                level=logging.WARNING)

    def measure(self, term: Tensor, task: Tensor, tensors: Sequence[Tensor],
                maps: Sequence[Tensor]) -> None:
        """Update the factor with one of the first steps.

        Args:
            term (Tensor): The term without a factor, a scalar.
            task (Tensor): The student's classification loss, a scalar.
            tensors (sequence[Tensor]): Tensors of the student on which the
                term acts.
            maps (sequence[Tensor]): Input maps of the heads, used instead if
                the classification loss does not depend on ``tensors``.
        """
        term_norm, task_norm = gradient_norms(term, task, tensors)
        # All processes must use the maps or none of them, because gradients
        # for the maps run through parts of the model.
        is_independent = (task_norm == 0).float()
        all_reduce(is_independent, 'min')
        if is_independent:
            term_norm, task_norm = gradient_norms(term, task, maps)
        log_ratio = (self.ratio * task_norm / term_norm).log()
        # A step without objects may have no gradient at all.
        is_known = log_ratio.isfinite()
        sums = torch.stack([
            log_ratio.masked_fill(~is_known, 0),
            is_known.to(log_ratio.dtype)
        ])
        all_reduce(sums)
        with torch.no_grad():
            if sums[1] > 0:
                self.mean_log += (sums[0] / sums[1] - self.mean_log) / (
                    self.steps + 1)
                self.steps += 1
            else:
                self._warn_of_no_gradient()
        if self.is_measured:
            print_log(
                f'{self._name}: {AUTO}{self.ratio:g} has become the '
                f'loss_weight {float(self.factor):.4g}', 'current')


def gradient_norms(term: Tensor, task: Tensor,
                   tensors: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
    """Compute the Euclidean norms of the gradients of two losses.

    Args:
        term (Tensor): First loss, a scalar; its graph is kept.
        task (Tensor): Second loss, a scalar; its graph is kept.
        tensors (sequence[Tensor]): Tensors by which the losses are
            differentiated. Tensors on which ``term`` does not depend, e.g.
            levels that are not compared, are ignored for both losses.

    Returns:
        tuple[Tensor, Tensor]: Norms for ``term`` and ``task``, float32
        scalars; 0 without a tensor.
    """

    def gradients_of(loss: Tensor, tensors: Sequence[Tensor]) -> list:
        # Outputs of frozen stages have no graph.
        tensors = [tensor for tensor in tensors if tensor.requires_grad]
        if not tensors or not loss.requires_grad:
            return []
        gradients = torch.autograd.grad(
            loss * GRADIENT_SCALE,
            tensors,
            retain_graph=True,
            allow_unused=True)
        return [(tensor, gradient.float() / GRADIENT_SCALE)
                for tensor, gradient in zip(tensors, gradients)
                if gradient is not None]

    def norm(gradients: list) -> Tensor:
        zero = term.new_zeros((), dtype=torch.float32)
        return sum((tensor.square().sum() for _, tensor in gradients),
                   zero).sqrt()

    of_term = gradients_of(term, tensors)
    return norm(of_term), norm(
        gradients_of(task, [tensor for tensor, _ in of_term]))


def classification_losses(losses: Losses) -> Losses:
    """Select the student's own classification losses.

    Args:
        losses (dict[str, Tensor | list[Tensor]]): The student's losses by
            name.

    Returns:
        dict[str, Tensor | list[Tensor]]: Losses whose name contains
        'loss_cls', e.g. 's0.loss_cls' or 'd0.loss_cls'; all losses if there
        is no such name.
    """
    return {
        name: loss
        for name, loss in losses.items() if 'loss_cls' in name
    } or losses


class TermSizeCheck:
    """Warn of terms that are much larger than the student's own losses.

    The means over the first 10 steps are compared.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._sums: Dict[str, Tensor] = {}
        self._student_loss: Union[float, Tensor] = 0.0

    def observe(self, terms: Dict[str, Tensor], step: TrainingStep) -> None:
        """Add a step; only the last of the first 10 steps reads a tensor.

        Args:
            terms (dict[str, Tensor]): Weighted terms by name.
            step (TrainingStep): Data of the student in this step.
        """
        if self._steps == STEPS:
            return
        self._steps += 1
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._student_loss = self._student_loss + step.total_loss.detach()
        if self._steps < STEPS:
            return
        for name, value in self._sums.items():
            ratio = float(
                value /
                self._student_loss) if self._student_loss > 0 else math.inf
            if ratio > LARGE:
                print_log(
                    f'{name} is {ratio:.3g} times as large as all losses of '
                    f'the student together, over the first {STEPS} steps: '
                    f"lower its loss_weight, or give it loss_weight='auto:1'",
                    'current',
                    level=logging.WARNING)
