"""Which adapter serves a detector, and which detectors go together."""
from typing import List, Type

import torch.nn as nn

from tcal_det.errors import InvalidTypeError, InvalidValueError
from ..detectors import detector_name
from .dense_head_adapter import DenseHeadAdapter
from .head_adapter import HeadAdapter
from .roi_head_adapter import RoIHeadAdapter

# The first that matches is taken: a two-stage detector has a dense RPN too.
FAMILIES: List[Type[HeadAdapter]] = [RoIHeadAdapter, DenseHeadAdapter]
SEE = 'see docs/methods.md, "Which heads"'


def adapter_for(detector: nn.Module, role: str) -> HeadAdapter:
    """The adapter of a detector's head.

    Chosen by the head, never by the detector's name.

    Args:
        detector (nn.Module): Student or teacher.
        role (str): 'student' or 'teacher', for the message.

    Returns:
        HeadAdapter: One for this detector.

    Raises:
        InvalidTypeError: If no adapter can read the head.
    """
    name = detector_name(detector)
    for family in FAMILIES:
        if family.matches(detector):
            reason = family.reason_against(detector)
            if reason is not None:
                raise InvalidTypeError(f'the {role} {name} {reason}; {SEE}')
            return family(detector)
    raise InvalidTypeError(
        f'the {role} {name} has neither an RoI head (`roi_head`) nor a dense '
        f'head (`bbox_head`) that can be read: choose another {role}; {SEE}')


def check_pair(student: HeadAdapter, teacher: HeadAdapter) -> None:
    """Refuse a teacher that cannot answer for the student's samples.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.

    Raises:
        InvalidValueError: If family, classes, activation, columns or places
            of the samples differ.
    """
    both = f'the teacher {teacher.name} and the student {student.name}'
    if type(student) is not type(teacher):
        raise InvalidValueError(
            f'{both} must have heads of one family, but the teacher '
            f'classifies {teacher.sample_name} and the student '
            f'{student.sample_name}, and pairs of different families are not '
            'supported yet: choose a teacher that classifies '
            f'{student.sample_name}')
    if student.num_classes != teacher.num_classes:
        raise InvalidValueError(
            f'teacher and student must classify the same classes, but the '
            f'teacher {teacher.name} has {teacher.num_classes} and the '
            f'student {student.name} {student.num_classes}: change '
            f'`model.teacher.config` or `model.{student.num_classes_key}`')
    for what, taught, known in (('activation', student.activation,
                                 teacher.activation),
                                ('number of columns', student.cls_channels,
                                 teacher.cls_channels)):
        if taught != known:
            raise InvalidValueError(
                f'{both} must have logits of one {what}, but the teacher has '
                f'{known} and the student {taught}: choose a teacher whose '
                '`loss_cls` is of the kind of the student\'s')
    reason = teacher.reason_against_student(student)
    if reason is not None:
        raise InvalidValueError(f'{both} {reason}')
