"""Weights that follow from gradients, and a warning of one that does not fit.

Terms of distillation differ by orders of magnitude: in their units, with the
channels of a map, with the number of samples. What a weight does is seen in
gradients.
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
# Steps in which a factor is measured, and terms are compared with losses.
STEPS = 10
# A term that exceeds the student's own losses by this factor drowns them.
LARGE = 20.0


def parse_loss_weight(where: str, weight: Any) -> Tuple[Any, bool]:
    """Split what a config gives as ``loss_weight``.

    Args:
        where (str): The loss's key, for the message.
        weight (Any): 'auto:r' with a ratio r > 0, or no text: a weight, which
            is the loss's to check.

    Returns:
        tuple[Any, bool]: r or the weight; whether it is r.

    Raises:
        InvalidValueError: If a text has another form.

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
            f"`{where}.loss_weight` must be a number or 'auto:r', r > 0 being "
            "the size of the term's gradient as a multiple of that of the "
            f"student's classification loss, e.g. 'auto:0.5', but got "
            f'{weight!r}')
    return ratio, True


class AutoWeight(nn.Module):
    r"""A factor that gives a term the gradient it is meant to have.

    .. math::
        f = \exp\Big(\frac1n \sum_{i \le n} \log
        \frac{r\,\|g_{task,i}\|}{\|g_{term,i}\|}\Big)

    with the norms of the gradients, of the student's classification loss and
    of the term, on what the term acts on: the logits, the maps. It is measured
    in the first 10 steps, all of which already use the factor of the steps so
    far; then it stays. It is saved and resumed with the optimiser's state, as
    buffers of the loss.

    Args:
        name (str): The loss's key in ``distill_losses``.
        ratio (float): r > 0.
    """

    def __init__(self, name: str, ratio: float) -> None:
        super().__init__()
        self._name, self.ratio = name, ratio
        self.register_buffer('mean_log', torch.zeros(()))
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        # Of `steps`, which it would take a wait for the GPU to read.
        self._is_measured = False
        self._unknown = 0

    @property
    def factor(self) -> Tensor:
        """What the term is multiplied by."""
        return self.mean_log.exp()

    @property
    def is_measured(self) -> bool:
        """Whether the factor has its last value."""
        if not self._is_measured:
            self._is_measured = bool(self.steps >= STEPS)
        return self._is_measured

    def _warn_of_no_gradient(self) -> None:
        self._unknown += 1
        if self._unknown == STEPS:
            print_log(
                f'{self._name}: {AUTO}{self.ratio:g} could not be measured in '
                f'{STEPS} steps, as a gradient was 0 or not finite: the '
                f'loss_weight is still {float(self.factor):.4g}',
                'current',
                level=logging.WARNING)

    def measure(self, term: Tensor, task: Tensor, acted_on: Sequence[Tensor],
                maps: Sequence[Tensor]) -> None:
        """Take in one of the first steps.

        Args:
            term (Tensor): The term as it is, a scalar.
            task (Tensor): The student's classification loss, a scalar.
            acted_on (sequence[Tensor]): What of the student the term acts on.
            maps (sequence[Tensor]): What the heads were given: it stands in
                where the classification loss does not depend on ``acted_on``.
        """
        term_norm, task_norm = gradient_norms(term, task, acted_on)
        # All processes look at the maps, or none: they run parts of the model.
        is_apart = (task_norm == 0).float()
        all_reduce(is_apart, 'min')
        if is_apart:
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
    """Euclidean norms of the gradients of two losses.

    Args:
        term (Tensor): A scalar; its graph is kept.
        task (Tensor): A scalar; its graph is kept.
        tensors (sequence[Tensor]): What they are differentiated by. Those
            that ``term`` does not depend on, levels that are not compared
            say, do not count for either.

    Returns:
        tuple[Tensor, Tensor]: Scalars of float32, 0 without a tensor.
    """

    def gradients_of(loss: Tensor, tensors: Sequence[Tensor]) -> list:
        # Behind a frozen stage there is no graph.
        tensors = [one for one in tensors if one.requires_grad]
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
        return sum((one.square().sum() for _, one in gradients), zero).sqrt()

    of_term = gradients_of(term, tensors)
    return norm(of_term), norm(
        gradients_of(task, [tensor for tensor, _ in of_term]))


def classification_losses(losses: Losses) -> Losses:
    """The student's own classification losses.

    Args:
        losses (dict): Its losses by name.

    Returns:
        dict: Those called 'loss_cls', after the name of a stage or a layer;
        all of them where there is none.
    """
    return {
        name: loss
        for name, loss in losses.items() if 'loss_cls' in name
    } or losses


class SizeWatch:
    """Warns of terms that drown the student's own losses.

    It compares the means of the first 10 steps.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._sums: Dict[str, Tensor] = {}
        self._own: Union[float, Tensor] = 0.0

    def observe(self, terms: Dict[str, Tensor], step: TrainingStep) -> None:
        """Take in a step; no tensor is read before the last.

        Args:
            terms (dict[str, Tensor]): Terms by name, weighted.
            step (TrainingStep): What the student did.
        """
        if self._steps == STEPS:
            return
        self._steps += 1
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._own = self._own + step.total_loss.detach()
        if self._steps < STEPS:
            return
        for name, value in self._sums.items():
            ratio = float(value / self._own) if self._own > 0 else math.inf
            if ratio > LARGE:
                print_log(
                    f'{name} is {ratio:.3g} times as large as all losses of '
                    f'the student together, over the first {STEPS} steps: '
                    f"lower its loss_weight, or give it loss_weight='auto:1'",
                    'current',
                    level=logging.WARNING)
