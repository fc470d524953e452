"""A student and a teacher: what they are, and how one can teach the other."""
from dataclasses import dataclass
from functools import partial
from typing import Dict, List, Optional, Sequence, Tuple, Type

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

from tcal_det.config_file import load_config, merge_options
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.class_correspondence import SharedClass
from tcal_det.models.class_matching import describe_match, match_classes
from tcal_det.models.class_names import ClassNames, checkpoint_class_names
from tcal_det.models.distillers.detector_files import (ZOO_PREFIX,
                                                       build_detector,
                                                       find_detector,
                                                       load_whole_checkpoint)
from tcal_det.models.distillers.sample_transport import (TRANSPORTS,
                                                         SampleTransport,
                                                         choose_transport)
from tcal_det.models.head_adapters import HeadAdapter, adapter_for
from .dataset_classes import dataset_names

TRANSPORTS_IN_WORDS = dict(
    same_samples='the teacher classifies the very {samples} of the student',
    rois_at_boxes='the teacher classifies the boxes that the student predicts',
    matched_predictions="predictions of the teacher are matched with the "
    "student's by their boxes")
# Options that are about what the written config adds.
_ADDED = ('model.type', 'model.student_type', 'model.teacher',
          'model.distill_losses')


@dataclass(frozen=True, eq=False)
class DistillPair:
    """What was found out about a student and a teacher.

    Attributes:
        student (HeadAdapter): Adapter of the student, with random weights.
        teacher (HeadAdapter): Adapter of the teacher, loaded.
        student_cfg (Config): Config of the student.
        teacher_cfg (Config): Config of the teacher.
        student_names (tuple[str, ...], optional): Classes of the train
            dataset; None if it does not name them.
        teacher_names (tuple[str, ...], optional): Classes of the teacher;
            None if its checkpoint does not name them.
        class_map (dict): Classes of the teacher and the student's that they
            are, that are not paired by name.
        shared (list[SharedClass], optional): Paired classes; None if nothing
            is known but that there are as many.
        transport (type): How the teacher reaches the student's samples.
    """
    student: HeadAdapter
    teacher: HeadAdapter
    student_cfg: Config
    teacher_cfg: Config
    student_names: Optional[ClassNames]
    teacher_names: Optional[ClassNames]
    class_map: Dict
    shared: Optional[List[SharedClass]]
    transport: Type[SampleTransport]

    @property
    def has_equal_classes(self) -> bool:
        """Whether a label means the same to both."""
        return self.shared is None or self.teacher_label == {
            label: label
            for label in range(self.teacher.num_classes)
        }

    @property
    def teacher_label(self) -> Optional[Dict[int, int]]:
        """Label of the teacher by that of the student.

        None where one of them knows a class that the other does not, or
        divides.
        """
        if self.shared is None:
            labels = range(self.student.num_classes)
            return {label: label for label in labels}
        if not (len(self.shared) == self.student.num_classes ==
                self.teacher.num_classes):
            return None
        if any(len(one.teacher) > 1 for one in self.shared):
            return None
        return {one.student: one.teacher[0] for one in self.shared}

    def lines(self) -> List[str]:
        """What was found out, for a person to read."""
        return [
            *(f'{role}: {one.name}, {one.num_classes} classes by '
              f'{one.activation}, classifies {one.sample_name}'
              for role, one in (('student', self.student),
                                ('teacher', self.teacher))),
            *self._class_lines(),
            f'transport: {self.transport.name}, {self.transport_in_words}',
            # Those that come before it are nearer to exact.
            *(f'    not {one.name}: the two '
              f'{one.reason_against(self.student, self.teacher)}'
              for one in TRANSPORTS[:TRANSPORTS.index(self.transport)]),
        ]

    @property
    def transport_in_words(self) -> str:
        return TRANSPORTS_IN_WORDS[self.transport.name].format(
            samples=self.student.sample_name)

    def summary(self) -> str:
        """The same in one sentence, without the table of the classes."""
        first = self._class_lines()[0]
        return f'{self.transport_in_words} ({self.transport.name}); {first}'

    def _class_lines(self) -> List[str]:
        number = self.student.num_classes
        if self.shared is None:
            who = [
                name
                for name, names in (('the checkpoint of the teacher',
                                     self.teacher_names), ('the train dataset',
                                                           self.student_names))
                if names is None
            ]
            return [
                f'classes: {number} on both sides, taken to be the same in '
                f'the same order, as {" and ".join(who)} '
                f'name{"s" * (len(who) == 1)} none'
            ]
        if self.has_equal_classes:
            return [f'classes: the same {number} in the same order']
        return [
            f'classes: {len(self.shared)} shared, of {number} of the student '
            f'and {self.teacher.num_classes} of the teacher', *[
                f'    {line}' for line in describe_match(
                    self.shared, _named(self.teacher_names, self.teacher),
                    self.student_names)
            ]
        ]


def read_class_map(pairs: Sequence[str]) -> Dict[str, str]:
    """What ``--classes`` were given.

    Args:
        pairs (sequence[str]): 'TEACHER=STUDENT', or 'TEACHER=' for a class of
            the teacher that is to be left out.

    Returns:
        dict[str, str]: The student's class by the teacher's.

    Raises:
        InvalidValueError: If there is no sign.
    """
    wrong = [pair for pair in pairs if '=' not in pair]
    if wrong:
        raise InvalidValueError(
            '`--classes` must be pairs TEACHER=STUDENT of names, e.g. '
            f'couch=sofa, but got {wrong[0]!r}')
    return dict(pair.split('=', maxsplit=1) for pair in pairs)


def read_student(path: str, options: Optional[Dict] = None) -> Config:
    """Read the config of a plain detector.

    Args:
        path (str): A path, or an 'mmdet::' name.
        options (dict, optional): What ``--cfg-options`` were given; those of
            the teacher and the losses are left out. Defaults to None.

    Returns:
        Config: Its content.

    Raises:
        MissingFileError: If it does not exist.
        InvalidTypeError, InvalidValueError: If it cannot be read, has no
            ``model``, or is that of a distiller already.
    """
    read = Config.fromfile
    if path.startswith(ZOO_PREFIX):
        read = partial(get_config, pretrained=False)
    cfg = load_config(path, 'config of the student', read)
    merge_options(
        cfg, {
            key: value
            for key, value in (options or {}).items()
            if not key.startswith(_ADDED)
        })
    model = cfg.get('model')
    if not isinstance(model, dict) or 'type' not in model:
        raise InvalidValueError(
            f'the config of the student {path!r} must have the key `model` '
            'with a `type`, but has none')
    if 'student_type' in model or 'distill_losses' in model:
        raise InvalidValueError(
            f'the config of the student {path!r} must be that of a plain '
            f'detector, but has `model.type={str(model.type)!r}` with a '
            'teacher already: train it with tools/train.py, or give the '
            'config that it inherits from')
    if not isinstance(model.type, str):
        raise InvalidTypeError(
            f'the config of the student {path!r} must have the name of a '
            'detector as `model.type`, but has a class, as configs with '
            'Python imports do, from which no other can inherit: put the '
            'keys `student_type`, `teacher` and `distill_losses` into it, '
            'see the README')
    return cfg


def meet(student_cfg: Config,
         teacher: str,
         checkpoint: str,
         class_map: Optional[Dict[str, str]] = None) -> DistillPair:
    """Build both detectors, load the teacher, and compare the two.

    Args:
        student_cfg (Config): What :func:`read_student` returned.
        teacher (str): 'mmdet::' name or path of the teacher's config.
        checkpoint (str): 'auto' for the zoo weights of an 'mmdet::' config,
            a path or a URL.
        class_map (dict[str, str], optional): Classes of the teacher by name,
            or by label where it has no names, and the student's that they
            are; '' for none. Defaults to None.

    Returns:
        DistillPair: The two, on the CPU.

    Raises:
        MissingFileError, InvalidTypeError, InvalidValueError: If one of them
            cannot be read, they share no class, or no transport serves.
    """
    teacher_cfg, checkpoint = find_detector(teacher, checkpoint)
    student_adapter = _adapter(student_cfg, 'student')
    teacher_adapter = _adapter(teacher_cfg, 'teacher')
    content = load_whole_checkpoint(teacher_adapter.detector, checkpoint)
    transport = choose_transport(student_adapter, teacher_adapter, 'auto')
    student_names = dataset_names(student_cfg, 'train',
                                  student_adapter.num_classes)
    teacher_names = checkpoint_class_names(content)
    if (teacher_names is not None
            and len(teacher_names) != teacher_adapter.num_classes):
        teacher_names = None
    shared, known = _share(student_adapter, teacher_adapter, student_names,
                           teacher_names, class_map or {})
    return DistillPair(student_adapter, teacher_adapter, student_cfg,
                       teacher_cfg, student_names, teacher_names, known,
                       shared, transport)


def _adapter(cfg: Config, role: str) -> HeadAdapter:
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return adapter_for(build_detector(cfg), role)


def _share(student: HeadAdapter, teacher: HeadAdapter,
           student_names: Optional[ClassNames],
           teacher_names: Optional[ClassNames],
           class_map: Dict[str, str]) -> Tuple[Optional[list], Dict]:
    """Paired classes, and ``teacher.classes`` of the config."""
    if student_names is None or (teacher_names is None and not class_map):
        unnamed = ('the checkpoint of the teacher' if teacher_names is None
                   else 'the train dataset of the student')
        if class_map or student.num_classes != teacher.num_classes:
            raise InvalidValueError(
                f'{unnamed} must name its classes to be compared with the '
                f'other, but does not, and the teacher {teacher.name} has '
                f'{teacher.num_classes} and the student {student.name} '
                f'{student.num_classes}: ' +
                ('give pairs, e.g. `--classes 0=NAME`'
                 if teacher_names is None and student_names is not None else
                 'set `train_dataloader.dataset.metainfo.classes`'))
        return None, {}
    known = {
        int(key) if teacher_names is None and key.isdigit() else key: value
        or None
        for key, value in class_map.items()
    }
    shared = match_classes(
        _named(teacher_names, teacher), student_names, known or 'auto')
    return shared, known


def _named(names: Optional[ClassNames], detector: HeadAdapter) -> ClassNames:
    """Names, or labels in their place, as the distiller takes them."""
    return names or tuple(map(str, range(detector.num_classes)))
