"""Matching of the teacher's classes to the student's classes."""
from collections.abc import Mapping
from typing import Any, Dict, List, Sequence, Union

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .class_correspondence import SharedClass
from .class_names import plain_spelling

# `teacher.classes`: 'auto', or a dict from the teacher's to the student's.
ClassMap = Union[str, Dict[Union[str, int], Union[str, int, None]]]
NAMES_SHOWN = 12


def check_class_map(classes: Any) -> None:
    """Check the type of ``teacher.classes``.

    Args:
        classes (Any): Value in the config.

    Raises:
        InvalidTypeError: If the value is neither 'auto' nor a dict of names
            or labels.
    """
    if classes == 'auto':
        return
    if not isinstance(classes, Mapping) or not all(
            _is_class(key) and (value is None or _is_class(value))
            for key, value in classes.items()):
        raise InvalidTypeError(
            "`teacher.classes` must be 'auto' or a dict that maps classes of "
            'the teacher to classes of the train dataset, by name or label, '
            "e.g. {'couch': 'sofa'} (None leaves a class out), but got "
            f'{shortened(classes)}')


def match_classes(teacher: Sequence[str],
                  student: Sequence[str],
                  classes: ClassMap = 'auto') -> List[SharedClass]:
    """Match the classes of two detectors.

    Classes match by name; upper case, spaces, hyphens and underscores are
    ignored. An entry of the dict has priority over the names. Several classes
    of the teacher may match one class of the student.

    Args:
        teacher (Sequence[str]): Class names of the teacher, in the order of
            the labels.
        student (Sequence[str]): Class names of the student, in the order of
            the labels.
        classes (str | dict): 'auto', or a dict that maps classes of the
            teacher to classes of the student, by name or label, or to None
            to leave a class out. Defaults to 'auto'.

    Returns:
        list[SharedClass]: Shared classes, in the order of the student's
        labels.

    Raises:
        InvalidValueError: If the dict names a class that does not exist, or
            if no class is shared.
    """
    given = {
        _label(key, teacher, 'the teacher'):
        None if value is None else _label(value, student, 'the train dataset')
        for key, value in ({} if classes == 'auto' else classes).items()
    }
    exact = {name: label for label, name in enumerate(student)}
    by_spelling = {
        plain_spelling(name): label
        for label, name in reversed(list(enumerate(student)))
    }
    teacher_labels: Dict[int, List[int]] = {}
    for label, name in enumerate(teacher):
        if label in given:
            target = given[label]
        else:
            target = exact.get(name, by_spelling.get(plain_spelling(name)))
        if target is not None:
            teacher_labels.setdefault(target, []).append(label)
    if not teacher_labels:
        raise InvalidValueError(
            'teacher and student must share a class, but the teacher has '
            f'{_listed(teacher)} and the train dataset has '
            f'{_listed(student)}: name the pairs, e.g. '
            f'`teacher.classes={{{teacher[0]!r}: {student[0]!r}}}`, or choose '
            'another teacher')
    return [
        SharedClass(label, tuple(teacher_labels[label]))
        for label in sorted(teacher_labels)
    ]


def describe_match(shared: Sequence[SharedClass], teacher: Sequence[str],
                   student: Sequence[str]) -> List[str]:
    """Format the matched classes, and those of one model only, as a table.

    Args:
        shared (Sequence[SharedClass]): Result of :func:`match_classes`.
        teacher (Sequence[str]): Class names of the teacher, in the order of
            the labels.
        student (Sequence[str]): Class names of the student, in the order of
            the labels.

    Returns:
        list[str]: Lines of the table, without line breaks.
    """
    teacher_labels = {
        label
        for shared_class in shared
        for label in shared_class.teacher
    }
    student_labels = {shared_class.student for shared_class in shared}
    rows = [('student', 'teacher')]
    rows += [(f'{shared_class.student} {student[shared_class.student]}',
              ', '.join(f'{label} {teacher[label]}'
                        for label in shared_class.teacher))
             for shared_class in shared]
    width = max(len(left) for left, _ in rows)
    lines = [f'{left:<{width}}  {right}' for left, right in rows]
    for role, names in (('student', [
            name for label, name in enumerate(student)
            if label not in student_labels
    ]), ('teacher', [
            name for label, name in enumerate(teacher)
            if label not in teacher_labels
    ])):
        if names:
            lines.append(f'classes of the {role} only: {_listed(names)}')
    return lines


def _is_class(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _label(value: Union[str, int], names: Sequence[str], owner: str) -> int:
    if isinstance(value, int):
        if 0 <= value < len(names):
            return value
    elif value in names:
        return list(names).index(value)
    else:
        spellings = [plain_spelling(name) for name in names]
        if plain_spelling(value) in spellings:
            return spellings.index(plain_spelling(value))
    raise InvalidValueError(
        f'`teacher.classes` must name classes of {owner}, but {value!r} is '
        f'not one of {_listed(names)}')


def _listed(names: Sequence[str]) -> str:
    shown = ', '.join(map(repr, names[:NAMES_SHOWN]))
    ellipsis = ', ...' if len(names) > NAMES_SHOWN else ''
    return f'{len(names)} ({shown}{ellipsis})'
