"""Feature maps of student and teacher, paired by stride."""
import math
from typing import Dict, List, Sequence, Tuple

from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter, ModuleCall
from ...losses.feature_loss import FeatureLoss, Scene
from ..training_step import Taught, TrainingStep

# Strides differ by less than this where sizes were rounded.
ROUNDING = 1.4
# A map is resized at most by this factor.
MOST_RESIZED = 2.0


def matched_maps(step: TrainingStep, taught: Taught,
                 part: str) -> Tuple[List[Tensor], List[Tensor], List[int]]:
    """The levels of both that are compared.

    Args:
        step (TrainingStep): What the student did.
        taught (Taught): What its teacher said.
        part (str): 'neck' or 'backbone'.

    Returns:
        tuple[list[Tensor], list[Tensor], list[int]]: Maps of the student and
        of the teacher, of the same length, and the positions of those of the
        teacher.

    Raises:
        InvalidValueError: If one of them returns no maps, or no two levels
            have the same stride, or strides within a factor of 2.
    """
    student = _maps_of('student', step.student, step.calls, part)
    teacher = _maps_of('teacher', taught.adapter, taught.calls, part)
    pairs = match_levels(*([tuple(level.shape[-2:]) for level in maps]
                           for maps in (student, teacher)))
    if not pairs or student[0].shape[0] != teacher[0].shape[0]:
        own, other = (', '.join('x'.join(map(str, level.shape))
                                for level in maps)
                      for maps in (student, teacher))
        raise InvalidValueError(
            f'the maps of the {part} must have the same images and, on some '
            'level, strides within a factor of '
            f'{MOST_RESIZED:g}, but the student {step.student.name} has '
            f'{own} and the teacher {taught.adapter.name} has {other}: '
            'choose another teacher, or a loss on logits')
    return ([student[own]
             for own, _ in pairs], [teacher[other] for _, other in pairs],
            [other for _, other in pairs])


def _maps_of(role: str, adapter: HeadAdapter, calls: Dict[str, ModuleCall],
             part: str) -> Tuple[Tensor, ...]:
    maps = calls[part].output if part in calls else None
    if not isinstance(maps, tuple) or not all(
            isinstance(level, Tensor) and level.dim() == 4 for level in maps):
        raise InvalidValueError(
            f'the {part} of the {role} {adapter.name} must return a tuple of '
            'maps, shape (N, D, H, W) each, to be compared by a loss on '
            "features, but does not: choose the other of features='neck' and "
            "features='backbone', or a loss on logits")
    return maps


def match_levels(student: Sequence[Tuple[int, int]],
                 teacher: Sequence[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Pairs of levels of the same stride, or of the nearest strides.

    The two pyramids lie over the same images: equal strides are equal sizes,
    but for rounding.

    Args:
        student (sequence[tuple]): Height and width of each level, in any
            order: a YOLOv3 begins with the smallest.
        teacher (sequence[tuple]): The same of the teacher.

    Returns:
        list[tuple[int, int]]: Positions of student and teacher, of the
        smallest stride first. Where no strides are equal, those of a ratio of
        at most 2.

    Example:
        >>> match_levels([(16, 16), (8, 8)], [(32, 32), (16, 16), (8, 8)])
        [(0, 1), (1, 2)]
    """
    own, other = (
        sorted(range(len(sizes)), key=lambda level: -math.prod(sizes[level]))
        for sizes in (student, teacher))
    for most in (ROUNDING, MOST_RESIZED):
        pairs = _pairs_within([student[level] for level in own],
                              [teacher[level] for level in other], most)
        if pairs:
            return [(own[first], other[second]) for first, second in pairs]
    return []


def _pairs_within(student: Sequence[Tuple[int, int]],
                  teacher: Sequence[Tuple[int, int]],
                  most: float) -> List[Tuple[int, int]]:
    pairs, start = [], 0
    for own, size in enumerate(student):
        ratios = [
            max(
                max(one / other, other / one)
                for one, other in zip(size, other_size))
            for other_size in teacher[start:]
        ]
        if ratios and min(ratios) <= most:
            found = start + ratios.index(min(ratios))
            pairs.append((own, found))
            start = found + 1
    return pairs


def scene_of(loss: FeatureLoss, step: TrainingStep, taught: Taught,
             levels: Sequence[int]) -> Scene:
    """What a loss asks for beside the maps.

    Args:
        loss (FeatureLoss): The loss.
        step (TrainingStep): What the student did.
        taught (Taught): What its teacher said.
        levels (sequence[int]): Levels of the teacher that are compared.
    """
    scores = boxes = None
    if loss.needs_scores:
        maps = taught.calls[loss.features].output
        scores = taught.teacher.score_maps(maps, taught.calls)
        scores = [scores[level] for level in levels]
    if loss.needs_boxes:
        boxes = [
            relative_boxes(
                get_box_tensor(sample.gt_instances.bboxes),
                step.images.shape[-2:]) for sample in step.data_samples
        ]
        # A TridentNet repeats the batch for each of its branches.
        num_maps = len(step.calls[loss.features].output[0])
        boxes = boxes * (num_maps // len(boxes))
    return Scene(scores, boxes)


def relative_boxes(boxes: Tensor, size: Tuple[int, int]) -> Tensor:
    """Boxes as shares of the input.

    Args:
        boxes (Tensor): Corners in pixels, shape (G, 4).
        size (tuple[int, int]): Height and width of the padded input.

    Returns:
        Tensor: Shape (G, 4), in [0, 1] for boxes inside.
    """
    height, width = size
    return boxes / boxes.new_tensor([width, height, width, height])
