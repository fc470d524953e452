"""Check that the outputs of two dense heads have the same priors."""
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter


def check_same_priors(student: HeadAdapter, teacher: HeadAdapter,
                      student_values: Tensor, teacher_values: Tensor) -> None:
    """Refuse maps of equal strides whose sizes were rounded differently.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        student_values (Tensor): Output of the student for the M priors of a
            level, M rows.
        teacher_values (Tensor): Output of the teacher for the same level.

    Raises:
        InvalidValueError: If the teacher's output does not have M rows.
    """
    if len(student_values) != len(teacher_values):
        raise InvalidValueError(
            f'the teacher {teacher.name} must have maps of the size of those '
            f'of the student {student.name}, but has {len(teacher_values)} '
            'priors on a level where the student has '
            f'{len(student_values)}: choose backbones and necks that round '
            'sizes in the same way')
