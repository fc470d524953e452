"""Compare a student and a teacher, and choose how the teacher is queried."""
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
                                                       load_weights)
from tcal_det.models.distillers.sample_transport import (TRANSPORTS,
                                                         SampleTransport,
                                                         choose_transport)
from tcal_det.models.head_adapters import HeadAdapter, adapter_for
from .dataset_classes import dataset_names

TRANSPORT_DESCRIPTIONS = dict(
    same_samples='the teacher classifies the same {samples} as the student',
    rois_at_boxes='the teacher classifies the boxes that the student predicts',
    matched_predictions="predictions of the teacher are matched with the "
    "student's by their boxes")
# Options of keys that the student's config lacks and the distill config adds.
_ADDED = ('model.type', 'model.student_type', 'model.teacher',
          'model.distill_losses')


@dataclass(frozen=True, eq=False)
class DistillPair:
    """Comparison of a student and a teacher.

    Attributes:
        student (HeadAdapter): Adapter of the student, with random weights.
        teacher (HeadAdapter): Adapter of the teacher, with loaded weights.
        student_cfg (Config): Config of the student.
        teacher_cfg (Config): Config of the teacher.
        student_names (tuple[str, ...], optional): Class names of the train
            dataset; None if it does not name them.
        teacher_names (tuple[str, ...], optional): Class names of the teacher;
            None if its checkpoint does not name them.
        class_map (dict): Student's class by the teacher's class, for classes
            that are not paired by name.
        shared (list[SharedClass], optional): Paired classes; None if names
            are missing and only the numbers of classes are known to be equal.
        transport (type): Class of the transport, by which the teacher
            classifies the student's samples.
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
        """Whether each label means the same class in both detectors."""
        return self.shared is None or self.teacher_label == {
            label: label
            for label in range(self.teacher.num_classes)
        }

    @property
    def teacher_label(self) -> Optional[Dict[int, int]]:
        """Label of the teacher by label of the student.

        None if one of them has a class that the other lacks, or that the
        other divides into several classes.
        """
        if self.shared is None:
            labels = range(self.student.num_classes)
            return {label: label for label in labels}
        if not (len(self.shared) == self.student.num_classes ==
                self.teacher.num_classes):
            return None
        if any(len(shared_class.teacher) > 1 for shared_class in self.shared):
            return None
        return {
            shared_class.student: shared_class.teacher[0]
            for shared_class in self.shared
        }

    def lines(self) -> List[str]:
        """Return lines of text that describe the comparison."""
        return [
            *(f'{role}: {adapter.name}, {adapter.num_classes} classes by '
              f'{adapter.activation}, classifies {adapter.sample_name}'
              for role, adapter in (('student', self.student),
                                    ('teacher', self.teacher))),
            *self._class_lines(),
            f'transport: {self.transport.name}, {self.transport_description}',
            # Transports that come earlier in the list are more exact.
            *(f'    not {transport.name}: the two '
              f'{transport.reason_against(self.student, self.teacher)}'
              for transport in TRANSPORTS[:TRANSPORTS.index(self.transport)]),
        ]

    @property
    def transport_description(self) -> str:
        return TRANSPORT_DESCRIPTIONS[self.transport.name].format(
            samples=self.student.sample_name)

    def summary(self) -> str:
        """Return the comparison as one sentence, without the class table."""
        first = self._class_lines()[0]
        return f'{self.transport_description} ({self.transport.name}); {first}'

    def _class_lines(self) -> List[str]:
        number = self.student.num_classes
        if self.shared is None:
            unnamed = [
                name
                for name, names in (('the checkpoint of the teacher',
                                     self.teacher_names), ('the train dataset',
                                                           self.student_names))
                if names is None
            ]
            return [
                f'classes: {number} on both sides, assumed to be the same in '
                f'the same order, because {" and ".join(unnamed)} '
                f'do{"es" * (len(unnamed) == 1)} not name them'
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
    """Parse the values of ``--classes``.

    Args:
        pairs (Sequence[str]): Pairs 'TEACHER=STUDENT' of class names;
            'TEACHER=' leaves out a class of the teacher.

    Returns:
        dict[str, str]: Student's class by the teacher's class.

    Raises:
        InvalidValueError: If a pair has no equals sign.
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
        path (str): Path or 'mmdet::' name of the config.
        options (dict, optional): Values of ``--cfg-options``; those of the
            teacher and the losses are ignored. Defaults to None.

    Returns:
        Config: Content of the config.

    Raises:
        MissingFileError: If the config does not exist.
        InvalidTypeError: If ``model.type`` is a class instead of a name.
        InvalidValueError: If the config cannot be read, has no ``model``, or
            already has a teacher.
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
            f'detector, but has `model.type={str(model.type)!r}`, which '
            'already has a teacher: train it with tools/train.py, or give '
            'the config that it inherits from')
    if not isinstance(model.type, str):
        raise InvalidTypeError(
            f'the config of the student {path!r} must have the name of a '
            'detector as `model.type`, but has a class; other configs cannot '
            'inherit from such a config with Python imports: put the keys '
            '`student_type`, `teacher` and `distill_losses` into it, see '
            'docs/get_started/distil.md')
    return cfg


def compare_detectors(
        student_cfg: Config,
        teacher: str,
        checkpoint: str,
        class_map: Optional[Dict[str, str]] = None) -> DistillPair:
    """Build both detectors, load the teacher, and compare the two.

    Args:
        student_cfg (Config): Config from :func:`read_student`.
        teacher (str): Path or 'mmdet::' name of the teacher's config.
        checkpoint (str): Path or URL of the teacher's checkpoint; 'auto' for
            the zoo weights of an 'mmdet::' config.
        class_map (dict[str, str], optional): Student's class, or '' for none,
            by the teacher's class: by its name, or by its label if the
            teacher has no names. Defaults to None.

    Returns:
        DistillPair: Comparison of the two, on the CPU.

    Raises:
        MissingFileError: If the teacher's config or checkpoint does not
            exist.
        InvalidTypeError: If a head is not supported.
        InvalidValueError: If a config or the checkpoint cannot be read, or if
            the two do not share a class or a transport.
    """
    teacher_cfg, checkpoint = find_detector(teacher, checkpoint)
    student_adapter = _adapter(student_cfg, 'student')
    teacher_adapter = _adapter(teacher_cfg, 'teacher')
    content = load_weights(teacher_adapter.detector, checkpoint)
    transport = choose_transport(student_adapter, teacher_adapter, 'auto')
    student_names = dataset_names(student_cfg, 'train',
                                  student_adapter.num_classes)
    teacher_names = checkpoint_class_names(content)
    if (teacher_names is not None
            and len(teacher_names) != teacher_adapter.num_classes):
        teacher_names = None
    shared, known = _match_classes(student_adapter, teacher_adapter,
                                   student_names, teacher_names, class_map
                                   or {})
    return DistillPair(student_adapter, teacher_adapter, student_cfg,
                       teacher_cfg, student_names, teacher_names, known,
                       shared, transport)


def _adapter(cfg: Config, role: str) -> HeadAdapter:
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return adapter_for(build_detector(cfg), role)


def _match_classes(student: HeadAdapter, teacher: HeadAdapter,
                   student_names: Optional[ClassNames],
                   teacher_names: Optional[ClassNames],
                   class_map: Dict[str, str]) -> Tuple[Optional[list], Dict]:
    """Return the paired classes, and ``teacher.classes`` of the config."""
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
    """Return class names, or labels as strings if there are no names."""
    return names or tuple(map(str, range(detector.num_classes)))
