"""A student detector that learns from a calibrated teacher.

The distiller *is a* student: ``model.type='CalibratedTeacherDistiller'``
builds a subclass of the student's own class with the distillation mixed in.
Parameter names and checkpoints are therefore those of the plain detector, and
exporters and hooks treat the distiller as the plain detector.
"""
import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Callable, Dict, Optional, Union

import torch
import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from tcal_det.suggestions import did_you_mean
from ..configured_part import build_configured_part
from ..detectors import (RecalibratedScoresMixin, detector_subclass,
                         explain_unknown_key)
from ..head_adapters import adapter_for, recorded_calls
from .auto_weight import (AutoWeight, TermSizeCheck, classification_losses,
                          parse_loss_weight)
from .frozen_teacher import FrozenTeacher
from .teacher_ensemble import TeacherEnsemble
from .terms import Term, check_mixture, term_of
from .training_step import TeacherOutput, TrainingStep

TEACHER_KEYS = tuple(inspect.signature(FrozenTeacher).parameters)


@MODELS.register_module()
class CalibratedTeacherDistiller(RecalibratedScoresMixin):
    """An mmdet detector that is distilled from a calibrated teacher.

    In each training step the student computes its own losses without change.
    The frozen teacher classifies the samples (RoIs, priors of a dense head,
    or queries) on which the student trains. The teacher's logits are
    calibrated and converted to the student's classes and activation. Each
    entry of ``distill_losses`` is then added to the student's losses under
    its own name, summed over the stages of a cascade and the levels of a
    pyramid. The student's head runs once. A teacher of the same kind
    classifies exactly the student's samples; its RPN, assigner and NMS do not
    run.

    Args:
        student_type (str | type): Type of the student, the former
            ``model.type``, e.g. 'FasterRCNN'. All arguments that are not
            listed here are those of the student.
        teacher (dict, optional): Arguments of ``FrozenTeacher``: ``config``
            ('mmdet::' name, path, Config or dict), ``checkpoint`` ('auto',
            path or URL) and, optionally, ``calibrator``, ``transport``,
            ``classes``, ``check``, ``decoder_layers``, ``sampling``. For
            several teachers, such dicts by the names of the teachers, and
            optionally ``weights``, see ``TeacherEnsemble``. May be None only
            if ``distill_losses`` is empty. Defaults to None.
        distill_losses (dict[str, dict], optional): Loss configs by the name
            under which the loss is logged. The names must begin with
            ``loss_``, because the runner sums only such entries. The key
            ``teacher`` of a config names one of several teachers; without
            this key the loss uses the mixture of the teachers.
            ``loss_weight='auto:r'`` measures the weight that makes the
            gradient of the term r times that of the student's classification
            loss, see ``AutoWeight``. Defaults to None, no losses: the plain
            student.
        **student (Any): Arguments of the student.

    Raises:
        InvalidTypeError: If an argument has a wrong type, or the student has
            no classification head that can be read.
        InvalidValueError: If an argument has a wrong value.

    Example:
        >>> model = dict(
        ...     type='tcal_det.CalibratedTeacherDistiller',
        ...     student_type='FasterRCNN',
        ...     teacher=dict(
        ...         config='mmdet::faster_rcnn/'
        ...         'faster-rcnn_r101_fpn_ms-3x_coco.py',
        ...         checkpoint='auto',
        ...         calibrator=dict(
        ...             type='TemperatureScaling', temperature=1.5)),
        ...     distill_losses=dict(
        ...         loss_kd_cls=dict(type='LogitKLDivLoss')))

    Reference:
        Kim et al., "The Role of Teacher Calibration in Knowledge
        Distillation", arXiv 2508.20224.
    """

    def __new__(cls, *args, **kwargs):
        if cls is CalibratedTeacherDistiller:
            cls = detector_subclass(cls, 'student_type',
                                    kwargs.get('student_type'))
        return super().__new__(cls)

    def __init__(self,
                 student_type: Union[str, type],
                 teacher: Optional[dict] = None,
                 distill_losses: Optional[Dict[str, dict]] = None,
                 **student) -> None:
        try:
            super().__init__(**student)
        except TypeError as error:
            explain_unknown_key(error, type(self), student,
                                ['student_type', 'teacher', 'distill_losses'])
            raise
        self._adapter = adapter_for(self, 'student')
        distill_losses = _check_losses(distill_losses)
        self._teacher_of = {
            name: _teacher_of(name, cfg)
            for name, cfg in distill_losses.items()
        }
        self.teacher = _make_teacher(teacher, self._teacher_of)
        if distill_losses:
            # The random initialisation of a loss with parameters must not
            # change the random numbers of the student.
            with torch.random.fork_rng(devices=[]):
                self.distill_losses = nn.ModuleDict({
                    name:
                    _build_loss(name, cfg)
                    for name, cfg in distill_losses.items()
                })
            self._size_check = TermSizeCheck()
            self._set_teacher_outputs()

    def _terms(self) -> Dict[str, Term]:
        """Create the term of each loss.

        New terms are created in each step, because a copy of the model has
        its own losses.
        """
        return {
            name: term_of(name, loss, self._adapter)
            for name, loss in self.distill_losses.items()
        }

    def _set_teacher_outputs(self) -> None:
        """Set for each teacher which of its outputs the losses use."""
        terms = self._terms()
        for teacher in set(self._teacher_of.values()):
            teacher_terms = [
                term for name, term in terms.items()
                if self._teacher_of[name] == teacher
            ]
            outputs = (any(term.needs_logits for term in teacher_terms), [
                part for term in teacher_terms for part in term.teacher_parts
            ])
            if isinstance(self.teacher, FrozenTeacher):
                self.teacher.set_outputs(*outputs)
            elif teacher is None:
                for term in teacher_terms:
                    check_mixture(term)
            else:
                self.teacher.set_outputs(teacher, *outputs)

    def _build_teacher(self) -> None:
        self.teacher.build(self)
        for name, term in self._terms().items():
            teacher = self.teacher
            if isinstance(teacher, TeacherEnsemble):
                if self._teacher_of[name] is None:
                    continue
                teacher = teacher.teachers[self._teacher_of[name]]
            term.check_teacher(self._adapter, teacher.adapter)

    @property
    def is_distilling(self) -> bool:
        """Whether a training step uses a teacher."""
        return hasattr(self, 'distill_losses')

    def init_weights(self) -> None:
        """Initialise the student and build the teacher.

        mmengine calls this method at the start of training, but not in
        testing.
        """
        super().init_weights()
        if self.is_distilling and not self.teacher.is_built:
            self._build_teacher()

    def loss(self, batch_inputs: Tensor,
             batch_data_samples: SampleList) -> dict:
        """Compute the student's own losses and the distillation terms.

        Args:
            batch_inputs (Tensor): Images, shape (N, 3, H, W).
            batch_data_samples (list[DetDataSample]): Data samples of the
                images, with annotations.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        if not self.is_distilling:
            return super().loss(batch_inputs, batch_data_samples)
        if not self.teacher.is_built:
            self._build_teacher()
        prepared = self.teacher.prepare_batch(batch_inputs, batch_data_samples)
        terms = self._terms()
        if any(term.needs_image_gradient for term in terms.values()):
            batch_inputs = batch_inputs.detach().requires_grad_()
        with self._adapter.observe(batch_data_samples) as observation, \
                recorded_calls(self._recorded_parts(terms)) as calls, \
                ExitStack() as contexts:
            for term in terms.values():
                contexts.enter_context(
                    term.recording(self._adapter, batch_data_samples))
            losses = super().loss(batch_inputs, batch_data_samples)
        duplicates = sorted(set(losses) & set(terms))
        if duplicates:
            raise InvalidValueError(
                f'the keys of `distill_losses` must not be keys of the '
                f'student\'s own losses, but got {duplicates}: rename them, '
                "e.g. 'loss_kd_cls'")
        step = TrainingStep(self._adapter, batch_inputs, batch_data_samples,
                            dict(losses), observation, calls)
        teacher_outputs = self.teacher.compute_outputs(prepared, observation)
        values = {
            name:
            self._weighted(name, term, step,
                           teacher_outputs[self._teacher_of[name]])
            for name, term in terms.items()
        }
        self._size_check.observe(values, step)
        losses.update(values)
        return losses

    def _recorded_parts(self, terms: Dict[str, Term]) -> Dict[str, nn.Module]:
        """Collect the student's modules whose calls the terms need."""
        parts = self._adapter.parts
        names = {
            part
            for term in terms.values()
            for part in term.student_parts
        }
        if any(_is_to_measure(loss) for loss in self.distill_losses.values()):
            names.add('neck')
        return {name: part for name, part in parts.items() if name in names}

    def _weighted(self, name: str, term: Term, step: TrainingStep,
                  teacher_output: TeacherOutput) -> Tensor:
        """Compute a term, multiplied by the measured factor of 'auto:r'."""
        value = term.value(step, teacher_output)
        loss = self.distill_losses[name]
        if not hasattr(loss, 'auto_weight'):
            return value
        # A schedule may have set another weight than 1. With a weight of 0
        # there is no gradient to measure.
        if _is_to_measure(loss) and loss.loss_weight > 0:
            task, _ = self.parse_losses(classification_losses(step.losses))
            loss.auto_weight.measure(value / loss.loss_weight, task,
                                     term.acts_on(step, teacher_output),
                                     step.calls['neck'].output)
        return value * loss.auto_weight.factor

    def _apply(self, fn: Callable[[Tensor], Tensor], *args, **kwargs):
        """Apply ``to``, ``cuda`` and ``half`` to the teacher, too."""
        if self.teacher is not None:
            self.teacher.apply_to_tensors(fn)
        return super()._apply(fn, *args, **kwargs)


def _build_loss(name: str, cfg: dict) -> nn.Module:
    where = f'distill_losses.{name}'
    weight, is_ratio = 1.0, False
    if isinstance(cfg, Mapping):
        weight, is_ratio = parse_loss_weight(where, cfg.get('loss_weight'))
    if not is_ratio:
        return build_configured_part(where, cfg)
    loss = build_configured_part(where, dict(cfg, loss_weight=1.0))
    loss.auto_weight = AutoWeight(name, weight)
    return loss


def _is_to_measure(loss: nn.Module) -> bool:
    weight = getattr(loss, 'auto_weight', None)
    return weight is not None and not weight.is_measured


def _check_losses(distill_losses: Optional[dict]) -> dict:
    distill_losses = distill_losses or {}
    if not isinstance(distill_losses, dict):
        raise InvalidTypeError(
            '`distill_losses` must be a dict of loss configs by name, but got '
            f'{type(distill_losses).__name__}')
    for name in distill_losses:
        if not name.startswith('loss_'):
            raise InvalidValueError(
                'the keys of `distill_losses` must begin with `loss_`, as '
                f'only such entries are back-propagated, but got {name!r}')
    # Copies, from which `teacher` is removed.
    return {
        name: dict(cfg) if isinstance(cfg, Mapping) else cfg
        for name, cfg in distill_losses.items()
    }


def _teacher_of(name: str, cfg: dict) -> Optional[str]:
    """Remove the key ``teacher`` from a loss config and return its value."""
    if not isinstance(cfg, dict) or 'teacher' not in cfg:
        return None
    teacher = cfg.pop('teacher')
    if not isinstance(teacher, str):
        raise InvalidTypeError(
            f'`distill_losses.{name}.teacher` must be the name of one of the '
            f'teachers, but got {shortened(teacher)}')
    return teacher


def _make_teacher(
    teacher: Optional[dict], losses: Dict[str, Optional[str]]
) -> Union[None, FrozenTeacher, TeacherEnsemble]:
    """Create one teacher, or several by name.

    Args:
        teacher (dict, optional): Value of ``teacher`` in the config.
        losses (dict[str, str]): Name of the teacher for each loss, by the
            name of the loss; None for a loss that names no teacher.
    """
    if teacher is None and not losses:
        return None
    if not isinstance(teacher, dict):
        raise InvalidTypeError(
            f'`teacher` must be a dict with the keys {TEACHER_KEYS}, or of '
            f'such dicts by name, but got {type(teacher).__name__}')
    if _is_ensemble(teacher):
        named = dict(teacher)
        weights = named.pop('weights', None)
        return TeacherEnsemble(
            {
                name: _make_frozen_teacher(f'teacher.{name}', cfg)
                for name, cfg in named.items()
            }, list(losses.values()), weights)
    named_losses = [name for name in losses if losses[name] is not None]
    if named_losses:
        raise InvalidValueError(
            f'`distill_losses.{named_losses[0]}.teacher` names the teacher '
            f'{losses[named_losses[0]]!r}, but `teacher` is a single one '
            'without a name: leave the key out, or name the teachers, '
            'teacher=dict(NAME=dict(config=..., checkpoint=...), ...)')
    return _make_frozen_teacher('teacher', teacher)


def _is_ensemble(teacher: dict) -> bool:
    teachers = {
        key: value
        for key, value in teacher.items() if key != 'weights'
    }
    return bool(teachers) and not set(teachers) & set(TEACHER_KEYS) and all(
        isinstance(value, dict) for value in teachers.values())


def _make_frozen_teacher(where: str, teacher: dict) -> FrozenTeacher:
    unknown = sorted(set(teacher) - set(TEACHER_KEYS))
    missing = sorted({'config', 'checkpoint'} - set(teacher))
    if unknown or missing:
        raise InvalidValueError(
            f'`{where}` must have the keys `config` and `checkpoint`, and '
            f'may have the others of {TEACHER_KEYS}, but has '
            f'{sorted(teacher)}' +
            ''.join(did_you_mean(key, TEACHER_KEYS) for key in unknown))
    return FrozenTeacher(**teacher)
