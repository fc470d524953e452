"""Which classes of a teacher are which of the student's data set."""
from collections.abc import Mapping
from typing import Any, Dict, List, Sequence, Union

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .class_correspondence import SharedClass
from .class_names import plain_spelling

# `teacher.classes`: by name, or pairs of the teacher's and the student's.
ClassMap = Union[str, Dict[Union[str, int], Union[str, int, None]]]
NAMES_SHOWN = 12


def check_class_map(classes: Any) -> None:
    """Refuse what `teacher.classes` cannot be.

    Args:
        classes (Any): What the config says.

    Raises:
        InvalidTypeError: If it is neither 'auto' nor a dict of names or
            labels.
    """
    if classes == 'auto':
        return
    if not isinstance(classes, Mapping) or not all(
            _is_class(key) and (value is None or _is_class(value))
            for key, value in classes.items()):
        raise InvalidTypeError(
            "`teacher.classes` must be 'auto' or a dict of the teacher's "
            'classes and the ones of the train dataset that they are, by name '
            "or label, e.g. {'couch': 'sofa'} (None: no class), but got "
            f'{shortened(classes)}')


def match_classes(teacher: Sequence[str],
                  student: Sequence[str],
                  classes: ClassMap = 'auto') -> List[SharedClass]:
    """Pair the classes of two detectors.

    By name; upper case, spaces, hyphens and underscores make no difference.
    A dict goes before the names. Several classes of the teacher may be one of
    the student's.

    Args:
        teacher (sequence[str]): Names in the order of the labels.
        student (sequence[str]): The same of the student.
        classes (str | dict): 'auto', or classes of the teacher and the ones
            of the student that they are, by name or label; None for a class
            that is to be left out. Defaults to 'auto'.

    Returns:
        list[SharedClass]: In the order of the student's labels.

    Raises:
        InvalidValueError: If the dict names a class that does not exist, or
            no class is shared.
    """
    known = {
        _label(key, teacher, 'the teacher'):
        None if value is None else _label(value, student, 'the train dataset')
        for key, value in ({} if classes == 'auto' else classes).items()
    }
    exact = {name: label for label, name in enumerate(student)}
    spelled = {
        plain_spelling(name): label
        for label, name in reversed(list(enumerate(student)))
    }
    meanings: Dict[int, List[int]] = {}
    for label, name in enumerate(teacher):
        if label in known:
            target = known[label]
        else:
            target = exact.get(name, spelled.get(plain_spelling(name)))
        if target is not None:
            meanings.setdefault(target, []).append(label)
    if not meanings:
        raise InvalidValueError(
            'teacher and student must share a class, but the teacher knows '
            f'{_listed(teacher)} and the train dataset has '
            f'{_listed(student)}: name the pairs, e.g. '
            f'`teacher.classes={{{teacher[0]!r}: {student[0]!r}}}`, or choose '
            'another teacher')
    return [
        SharedClass(label, tuple(meanings[label]))
        for label in sorted(meanings)
    ]


def describe_match(shared: Sequence[SharedClass], teacher: Sequence[str],
                   student: Sequence[str]) -> List[str]:
    """Lines of a table: who knows what, and by which name.

    Args:
        shared (sequence[SharedClass]): What :func:`match_classes` returned.
        teacher (sequence[str]): Names in the order of the labels.
        student (sequence[str]): The same of the student.

    Returns:
        list[str]: Without the end of line.
    """
    used = {label for one in shared for label in one.teacher}
    known = {one.student for one in shared}
    rows = [('student', 'teacher')]
    rows += [(f'{one.student} {student[one.student]}',
              ', '.join(f'{label} {teacher[label]}' for label in one.teacher))
             for one in shared]
    width = max(len(left) for left, _ in rows)
    lines = [f'{left:<{width}}  {right}' for left, right in rows]
    for who, names in (('student', [
            name for label, name in enumerate(student) if label not in known
    ]), ('teacher',
         [name for label, name in enumerate(teacher) if label not in used])):
        if names:
            lines.append(f'only the {who} knows {_listed(names)}')
    return lines


def _is_class(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _label(value: Union[str, int], names: Sequence[str], whose: str) -> int:
    if isinstance(value, int):
        if 0 <= value < len(names):
            return value
    elif value in names:
        return list(names).index(value)
    else:
        spelled = [plain_spelling(name) for name in names]
        if plain_spelling(value) in spelled:
            return spelled.index(plain_spelling(value))
    raise InvalidValueError(
        f'`teacher.classes` must name classes of {whose}, but {value!r} is '
        f'none of {_listed(names)}')


def _listed(names: Sequence[str]) -> str:
    shown = ', '.join(map(repr, names[:NAMES_SHOWN]))
    more = ', ...' if len(names) > NAMES_SHOWN else ''
    return f'{len(names)} ({shown}{more})'
