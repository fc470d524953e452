"""Schedules for the weight of a distillation loss."""
import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Optional, Sequence

from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from tcal_det.checks import (check_count, check_non_negative, check_positive,
                             shortened)
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import HOOKS


class Schedule(metaclass=ABCMeta):
    """Base class of the schedules."""

    @abstractmethod
    def factor(self, step: int, total: int) -> float:
        """Return the factor of the loss's initial weight.

        Args:
            step (int): Number of finished epochs or iterations.
            total (int): Number of epochs or iterations of the training.

        Returns:
            float: Factor, >= 0.
        """

    def _replace_fields(self, **parameters: Any) -> None:
        """Replace given arguments by the plain numbers of the checks."""
        for name, value in parameters.items():
            object.__setattr__(self, name, value)  # of a frozen dataclass


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """Constant factor 1: the weight of the config is not changed."""

    def factor(self, step: int, total: int) -> float:
        """See :meth:`Schedule.factor`."""
        return 1.0


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """Linear change from ``start_factor`` to ``end_factor``.

    Args:
        start_factor (float): Factor at step 0, >= 0. Defaults to 1.0.
        end_factor (float): Factor at the last step, >= 0. Defaults to 0.0.
        duration (int, optional): Number of steps of the change; afterwards
            the factor stays ``end_factor``. Defaults to None, the whole
            training.

    Example:
        >>> schedule = LinearSchedule(start_factor=0., end_factor=1.)
        >>> [schedule.factor(step, total=5) for step in range(5)]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    start_factor: float = 1.0
    end_factor: float = 0.0
    duration: Optional[int] = None

    def __post_init__(self):
        self._replace_fields(
            start_factor=check_non_negative('schedule.start_factor',
                                            self.start_factor),
            end_factor=check_non_negative('schedule.end_factor',
                                          self.end_factor),
            duration=None if self.duration is None else check_count(
                'schedule.duration', self.duration))

    def factor(self, step: int, total: int) -> float:
        """See :meth:`Schedule.factor`."""
        # The first of n steps has progress 0, the last one progress 1.
        last = (self.duration or total) - 1
        progress = min(step / last, 1.0) if last > 0 else float(step > 0)
        return self.start_factor + (
            self.end_factor - self.start_factor) * self.interpolate(progress)

    def interpolate(self, progress: float) -> float:
        """Map progress to the fraction of the change that is done.

        Args:
            progress (float): Progress of the schedule, in [0, 1].

        Returns:
            float: Fraction from 0 at progress 0 to 1 at progress 1.
        """
        return progress


@dataclass(frozen=True)
class CosineSchedule(LinearSchedule):
    """Change from ``start_factor`` to ``end_factor`` along half a cosine.

    The arguments are those of :class:`LinearSchedule`.

    Example:
        >>> schedule = CosineSchedule()
        >>> [round(schedule.factor(step, total=5), 4) for step in range(5)]
        [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    def interpolate(self, progress: float) -> float:
        """See :meth:`LinearSchedule.interpolate`."""
        return (1 - math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """Multiplication by ``gamma`` at each milestone.

    Args:
        milestones (Sequence[int]): Steps at which the factor is multiplied,
            >= 0.
        gamma (float): Factor of each milestone, >= 0. Defaults to 0.1.

    Example:
        >>> schedule = StepSchedule(milestones=[2, 3], gamma=.5)
        >>> [schedule.factor(step, total=5) for step in range(5)]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self):
        if not isinstance(self.milestones, (list, tuple)):
            raise InvalidTypeError(
                '`schedule.milestones` must be a list of steps, but got '
                f'{shortened(self.milestones)}')
        self._replace_fields(
            milestones=[
                check_count('schedule.milestones', milestone, lowest=0)
                for milestone in self.milestones
            ],
            gamma=check_non_negative('schedule.gamma', self.gamma))
        try:
            self.gamma**len(self.milestones)
        except OverflowError:
            raise InvalidValueError(
                '`schedule.gamma` must have finite powers up to the number of '
                f'milestones, {len(self.milestones)}, but got {self.gamma!r}'
            ) from None

    def factor(self, step: int, total: int) -> float:
        """See :meth:`Schedule.factor`."""
        return self.gamma**sum(step >= value for value in self.milestones)


@dataclass(frozen=True)
class EarlyDecaySchedule(Schedule):
    r"""Full weight in the early critical phase, then exponential decay.

    The factor is :math:`\gamma^{\max(0, k - h)}` at step k. With h = 0 the
    decay begins at the first step.

    Args:
        gamma (float): Factor of each step, :math:`\gamma`, in (0, 1].
        hold (int): Number of steps at full weight, h, >= 0. Defaults to 0.

    Example:
        >>> schedule = EarlyDecaySchedule(gamma=.5, hold=1)
        >>> [schedule.factor(step, total=5) for step in range(5)]
        [1.0, 1.0, 0.5, 0.25, 0.125]

    Interpretation:
        The decay is geometric in the step.

    Difference from the paper:
        The paper applies the decay to its feature terms; here it applies to
        the weight of any loss.

    Reference:
        Passalis et al., "Heterogeneous Knowledge Distillation using
        Information Flow Modeling", CVPR 2020, arXiv 2005.00727.
    """

    gamma: float
    hold: int = 0

    def __post_init__(self):
        gamma = check_positive('schedule.gamma', self.gamma)
        if gamma > 1:
            raise InvalidValueError(
                f'`schedule.gamma` must be in (0, 1], but got {self.gamma!r}')
        self._replace_fields(
            gamma=gamma,
            hold=check_count('schedule.hold', self.hold, lowest=0))

    def factor(self, step: int, total: int) -> float:
        """See :meth:`Schedule.factor`."""
        return self.gamma**max(0, step - self.hold)


SCHEDULES = {
    'constant': ConstantSchedule,
    'linear': LinearSchedule,
    'cosine': CosineSchedule,
    'step': StepSchedule,
    'early_decay': EarlyDecaySchedule,
}


@HOOKS.register_module()
class LossWeightScheduleHook(Hook):
    """Set the weight of one distillation loss before every iteration.

    The weight is the loss's own ``loss_weight`` times a factor that depends
    only on the current epoch or iteration. The hook has no state, so a
    resumed run has the weights of an uninterrupted one. The weight of
    ``loss_NAME`` is logged as ``NAME_weight``, e.g. the weight of
    ``loss_kd_cls`` as ``kd_cls_weight``.

    Args:
        loss (str): Key of the loss in the model's ``distill_losses``.
        schedule (dict): Config of the schedule: ``type``, one of 'constant',
            'linear', 'cosine', 'step' and 'early_decay', and the arguments of
            that schedule.
        by_epoch (bool): Whether steps are epochs (True) or iterations
            (False). Defaults to True.

    Raises:
        InvalidTypeError: If an argument has the wrong type.
        InvalidValueError: If an argument is not allowed, or, at the start of
            the training, if the model does not have the loss.

    Example:
        >>> custom_hooks = [
        ...     dict(
        ...         type='tcal_det.LossWeightScheduleHook',
        ...         loss='loss_kd_cls',
        ...         schedule=dict(type='cosine', end_factor=0.1))
        ... ]
    """

    def __init__(self,
                 loss: str,
                 schedule: dict,
                 by_epoch: bool = True) -> None:
        if not isinstance(loss, str):
            raise InvalidTypeError(
                '`loss` of LossWeightScheduleHook must be a key of '
                f'`model.distill_losses`, but got {shortened(loss)}')
        if not isinstance(by_epoch, bool):
            raise InvalidTypeError(
                '`by_epoch` of LossWeightScheduleHook must be True or False, '
                f'but got {shortened(by_epoch)}')
        self.loss = loss
        self.schedule = build_schedule(schedule)
        self.by_epoch = by_epoch

    def before_train(self, runner: Runner) -> None:
        """Find the loss and its initial weight."""
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise InvalidValueError(
                '`by_epoch` of LossWeightScheduleHook must be False for a '
                'training counted in iterations (IterBasedTrainLoop), but '
                'got True')
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        losses = getattr(model, 'distill_losses', {})
        if self.loss not in losses:
            raise InvalidValueError(
                '`loss` of LossWeightScheduleHook must be a key of '
                f'`model.distill_losses`, {sorted(losses)}, but got '
                f'{self.loss!r}')
        self._module = losses[self.loss]
        self._initial_weight = self._module.loss_weight

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: DATA_BATCH = None) -> None:
        """Set and log the weight of this iteration."""
        if self.by_epoch:
            step, total = runner.epoch, runner.max_epochs
        else:
            step, total = runner.iter, runner.max_iters
        weight = self._initial_weight * self.schedule.factor(step, total)
        self._module.loss_weight = weight
        # The name must not contain 'loss': mmengine would log a mean over the
        # last iterations.
        name = self.loss.replace('loss_', '', 1) + '_weight'
        runner.message_hub.update_scalar(f'train/{name}', weight)

    def after_train(self, runner: Runner) -> None:
        """Restore the loss's weight of the config."""
        self._module.loss_weight = self._initial_weight


def build_schedule(schedule: dict) -> Schedule:
    """Build a schedule from its config.

    Args:
        schedule (dict): Config with ``type`` and the arguments of that
            schedule.

    Returns:
        Schedule: Schedule of this type.

    Raises:
        InvalidTypeError: If the config or an argument has the wrong type.
        InvalidValueError: If the type or an argument is not allowed.
    """
    if not isinstance(schedule, dict):
        raise InvalidTypeError(
            f'`schedule` must be a dict with a `type`, but got {schedule!r}')
    arguments = dict(schedule)
    kind = arguments.pop('type', None)
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise InvalidValueError(
            f'`schedule.type` must be one of {sorted(SCHEDULES)}, but got '
            f'{kind!r}')
    allowed = [field.name for field in fields(SCHEDULES[kind])]
    unknown = sorted(set(arguments) - set(allowed))
    if unknown:
        raise InvalidValueError(
            f'`schedule` of type {kind!r} takes {allowed}, but got {unknown}')
    try:
        return SCHEDULES[kind](**arguments)
    except InvalidTypeError:
        raise
    except TypeError as error:
        raise InvalidValueError(
            f'`schedule` of type {kind!r} takes {allowed}, but got '
            f'{sorted(arguments)} ({error})') from None
