"""Checks that a teacher can teach a student: its calibrator, its classes."""
from typing import Optional

from mmengine.logging import print_log

from tcal_det.errors import InvalidValueError
from ..calibrators import Calibrator
from ..class_correspondence import ClassCorrespondence, LogitColumns
from ..class_matching import ClassMap, describe_match, match_classes
from ..class_names import ClassNames
from ..head_adapters import HeadAdapter


def check_calibrator(calibrator: Calibrator, teacher: HeadAdapter) -> None:
    """Refuse a calibrator that is made for another kind of head.

    Args:
        calibrator (Calibrator): Calibrator of ``teacher.calibrator``.
        teacher (HeadAdapter): Adapter of the teacher.

    Raises:
        InvalidValueError: If the activations or the numbers of columns
            differ.
    """
    if calibrator.activation != teacher.activation:
        others = dict(
            softmax='TemperatureScaling or VectorScaling',
            sigmoid="PlattScaling, FocalPosterior or TemperatureScaling with "
            "activation='sigmoid'")[teacher.activation]
        raise InvalidValueError(
            f'`teacher.calibrator` must be made for {teacher.activation} '
            f'heads, the kind of the teacher {teacher.name}, but '
            f'{type(calibrator).__name__} is for {calibrator.activation}: use '
            f'{others}')
    calibrator.check_cls_channels(teacher.cls_channels)


def check_unnamed_classes(student: HeadAdapter, teacher: HeadAdapter,
                          class_map: ClassMap, checkpoint: str) -> None:
    """Check classes without names: their numbers must be equal.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        class_map (str | dict): Value of ``teacher.classes``.
        checkpoint (str): Path or URL of the teacher's weights, which hold no
            class names.

    Raises:
        InvalidValueError: If the numbers differ, or ``class_map`` contains
            names of the teacher's classes.
    """
    if class_map != 'auto':
        names = [key for key in class_map if isinstance(key, str)]
        if not names:
            return
        raise InvalidValueError(
            '`teacher.classes` must give classes of the teacher as labels '
            f'(integers), as the checkpoint {checkpoint!r} holds no class '
            f'names, but got {names}')
    if student.num_classes != teacher.num_classes:
        raise InvalidValueError(
            'teacher and student must classify the same classes where the '
            f'checkpoint {checkpoint!r} holds no class names, but the '
            f'teacher {teacher.name} has {teacher.num_classes} and the '
            f'student {student.name} {student.num_classes}: give a '
            'checkpoint with `meta.dataset_meta`, pairs of labels as '
            '`teacher.classes`, or change `model.teacher.config` or '
            f'`model.{student.num_classes_key}`')


def match_columns(student: HeadAdapter, teacher: HeadAdapter,
                  student_names: Optional[ClassNames],
                  teacher_names: Optional[ClassNames],
                  class_map: ClassMap) -> ClassCorrespondence:
    """Determine the logits of the shared classes.

    Without names in the checkpoint and in ``class_map``, the classes are
    those of the student, in its order. If the names differ, the pairs are
    logged.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        student_names (tuple[str], optional): Class names of the train
            dataset. Another number than the student's classes counts as
            none.
        teacher_names (tuple[str], optional): Class names in the teacher's
            checkpoint.
        class_map (str | dict): Value of ``teacher.classes``.

    Returns:
        ClassCorrespondence: Columns of both, for the shared classes.

    Raises:
        InvalidValueError: If the two share no class, or the train dataset
            has no class names to be compared.
    """
    if student_names is not None and (len(student_names)
                                      != student.num_classes):
        student_names = None
    shared = None
    if teacher_names is not None or class_map != 'auto':
        if student_names is not None:
            shared = _shared_classes(
                student_names, teacher_names
                or tuple(map(str, range(teacher.num_classes))), class_map)
        elif (class_map != 'auto'
              or student.num_classes != teacher.num_classes):
            raise InvalidValueError(
                f'the train dataset must have the {student.num_classes} '
                f'class names of the student {student.name} as '
                '`metainfo.classes`, to be compared with the '
                f'{teacher.num_classes} of the teacher {teacher.name}, but '
                'has none: set them')
    return ClassCorrespondence(
        *(LogitColumns(adapter.activation, adapter.num_classes,
                       adapter.cls_channels)
          for adapter in (student, teacher)), shared)


def _shared_classes(student_names: ClassNames, teacher_names: ClassNames,
                    class_map: ClassMap) -> list:
    shared = match_classes(teacher_names, student_names, class_map)
    if teacher_names != student_names:
        print_log(
            '\n    '.join([
                f'Teacher and student share {len(shared)} classes:',
                *describe_match(shared, teacher_names, student_names)
            ]), 'current')
    return shared
