"""Feature maps of student and teacher, paired by stride."""
import math
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter, ModuleCall
from ...losses.feature_loss import FeatureLoss, Scene
from ..training_step import TeacherOutput, TrainingStep

# Strides are equal if they differ by at most this factor, because sizes are
# rounded.
ROUNDING = 1.4
# Largest factor by which a map is resized.
MOST_RESIZED = 2.0

Size = Tuple[float, float]


class MatchedMaps(NamedTuple):
    """Compared feature maps, cropped to the part of the batch that both see.

    Shapes: N images; D channels, H rows and W columns of a map.

    Attributes:
        student (list[Tensor]): Maps of the student, shape (N, D, H, W) each.
        teacher (list[Tensor]): Maps of the teacher, in the same number.
        levels (list[int]): Levels of the maps in the teacher's output.
        extent (tuple[int, int]): Height and width, in pixels, of the part of
            the input that both models see. The two may pad a batch to
            different sizes.
    """
    student: List[Tensor]
    teacher: List[Tensor]
    levels: List[int]
    extent: Tuple[int, int]


def matched_maps(step: TrainingStep, teacher_output: TeacherOutput,
                 part: str) -> MatchedMaps:
    """Pair the feature maps of student and teacher.

    Args:
        step (TrainingStep): Data of the student in this step.
        teacher_output (TeacherOutput): Data of the teacher in this step.
        part (str): Module that returns the maps, 'neck' or 'backbone'.

    Returns:
        MatchedMaps: Levels with equal strides; if there are none, levels
        whose strides differ by at most a factor of 2.

    Raises:
        InvalidValueError: If one of the modules does not return maps, or no
            two levels have strides within a factor of 2.
    """
    student = _maps_of('student', step.student, step.calls, part)
    teacher = _maps_of('teacher', teacher_output.adapter, teacher_output.calls,
                       part)
    inputs = [
        tuple(images.shape[-2:])
        for images in (step.images, teacher_output.images)
    ]
    # Sizes of the teacher's maps are scaled as if its input had the size of
    # the student's. Equal strides then give equal sizes.
    scale = [
        student_side / teacher_side
        for student_side, teacher_side in zip(*inputs)
    ]
    sizes = ([_size(level) for level in student],
             [(height * scale[0], width * scale[1])
              for height, width in map(_size, teacher)])
    pairs = match_levels(*sizes)
    if not pairs or student[0].shape[0] != teacher[0].shape[0]:
        student_shapes, teacher_shapes = (', '.join(
            'x'.join(map(str, level.shape)) for level in maps)
                                          for maps in (student, teacher))
        raise InvalidValueError(
            f'the maps of the {part} must have the same images and, on some '
            'level, strides within a factor of '
            f'{MOST_RESIZED:g}, but the student {step.student.name} has '
            f'{student_shapes} and the teacher {teacher_output.adapter.name} '
            f'has {teacher_shapes}: choose another teacher, or a loss on '
            'logits')
    extent = tuple(map(min, *inputs))
    matched = MatchedMaps([], [], [], extent)
    for student_level, teacher_level in pairs:
        counts = [
            _count_within(_size(maps[level]), size, extent)
            for maps, level, size in zip((student,
                                          teacher), (student_level,
                                                     teacher_level), inputs)
        ]
        if _is_same_stride(sizes[0][student_level], sizes[1][teacher_level]):
            counts = [tuple(map(min, *counts))] * 2
        for maps, level, (height, width), kept in zip(
            (student, teacher), (student_level, teacher_level), counts,
                matched):
            kept.append(maps[level][..., :height, :width])
        matched.levels.append(teacher_level)
    return matched


def _size(level: Tensor) -> Tuple[int, int]:
    return tuple(level.shape[-2:])


def _count_within(size: Tuple[int, int], image: Tuple[int, int],
                  extent: Tuple[int, int]) -> Tuple[int, int]:
    """Count the rows and columns of a map over a part of its input."""
    return tuple(-(-count * part // whole)
                 for count, whole, part in zip(size, image, extent))


def _is_same_stride(size: Size, other_size: Size) -> bool:
    """Check whether the sizes of two maps differ only by rounding."""
    return all(
        abs(length -
            other_length) <= 1 or max(length / other_length, other_length /
                                      length) <= ROUNDING
        for length, other_length in zip(size, other_size))


def _maps_of(role: str, adapter: HeadAdapter, calls: Dict[str, ModuleCall],
             part: str) -> Tuple[Tensor, ...]:
    maps = calls[part].output if part in calls else None
    if not isinstance(maps, tuple) or not all(
            isinstance(level, Tensor) and level.dim() == 4 for level in maps):
        raise InvalidValueError(
            f'the {part} of the {role} {adapter.name} must return a tuple of '
            'maps, shape (N, D, H, W) each, to be compared by a loss on '
            'features, but does not: choose the other value of `features` '
            "('neck' or 'backbone'), or a loss on logits")
    return maps


def match_levels(student: Sequence[Size],
                 teacher: Sequence[Size]) -> List[Tuple[int, int]]:
    """Pair the levels of two pyramids by equal or nearest strides.

    The two pyramids cover the same images, so that equal strides mean equal
    sizes, except for rounding.

    Args:
        student (sequence[tuple[float, float]]): Height and width of each
            level of the student, in any order; e.g. YOLOv3 begins with the
            smallest.
        teacher (sequence[tuple[float, float]]): Height and width of each
            level of the teacher, in any order.

    Returns:
        list[tuple[int, int]]: Positions of the paired levels of student and
        teacher, in ascending order of the strides. If no strides are equal,
        levels are paired whose strides differ by at most a factor of 2.

    Example:
        >>> match_levels([(16, 16), (8, 8)], [(32, 32), (16, 16), (8, 8)])
        [(0, 1), (1, 2)]
    """
    student_order, teacher_order = (
        sorted(range(len(sizes)), key=lambda level: -math.prod(sizes[level]))
        for sizes in (student, teacher))
    sizes = ([student[level] for level in student_order],
             [teacher[level] for level in teacher_order])
    pairs = _pairs(*sizes, _is_same_stride) or _pairs(
        *sizes, lambda size, other: _ratio(size, other) <= MOST_RESIZED)
    return [(student_order[first], teacher_order[second])
            for first, second in pairs]


def _ratio(size: Size, other_size: Size) -> float:
    return max(
        max(length / other_length, other_length / length)
        for length, other_length in zip(size, other_size))


def _pairs(student: Sequence[Size], teacher: Sequence[Size],
           fits: Callable[[Size, Size], bool]) -> List[Tuple[int, int]]:
    """Pair each size with the nearest that fits, both in descending order."""
    pairs, start = [], 0
    for index, size in enumerate(student):
        fitting = [
            other for other in range(start, len(teacher))
            if fits(size, teacher[other])
        ]
        if fitting:
            nearest = min(
                fitting, key=lambda level: _ratio(size, teacher[level]))
            pairs.append((index, nearest))
            start = nearest + 1
    return pairs


def scene_of(loss: FeatureLoss, step: TrainingStep,
             teacher_output: TeacherOutput, matched: MatchedMaps) -> Scene:
    """Collect the inputs of a loss beside the maps.

    Args:
        loss (FeatureLoss): The loss.
        step (TrainingStep): Data of the student in this step.
        teacher_output (TeacherOutput): Data of the teacher in this step.
        matched (MatchedMaps): Compared feature maps.

    Returns:
        Scene: Scores and boxes, as far as the loss needs them.
    """
    scores = boxes = None
    if loss.needs_scores:
        maps = teacher_output.calls[loss.features].output
        scores = teacher_output.teacher.score_maps(maps, teacher_output.calls)
        scores = [
            scores[level][..., :maps.shape[-2], :maps.shape[-1]]
            for level, maps in zip(matched.levels, matched.teacher)
        ]
    if loss.needs_boxes:
        boxes = [
            relative_boxes(
                get_box_tensor(sample.gt_instances.bboxes), matched.extent)
            for sample in step.data_samples
        ]
        # TridentNet repeats the batch for each of its branches.
        num_maps = len(step.calls[loss.features].output[0])
        boxes = boxes * (num_maps // len(boxes))
    return Scene(scores, boxes)


def relative_boxes(boxes: Tensor, size: Tuple[int, int]) -> Tensor:
    """Divide the coordinates of boxes by the size of the input.

    Args:
        boxes (Tensor): Corners of G boxes in pixels, shape (G, 4).
        size (tuple[int, int]): Height and width of the input, in pixels.

    Returns:
        Tensor: Relative corners, in [0, 1] for boxes inside the input, shape
        (G, 4).
    """
    height, width = size
    return boxes / boxes.new_tensor([width, height, width, height])
