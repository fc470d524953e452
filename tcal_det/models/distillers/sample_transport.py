"""Ways to obtain teacher logits for the student's samples.

Both detectors classify the same samples if both have RoIs, or both have the
same priors. A teacher with RoIs can classify the boxes that the student
predicts. Any other teacher makes its own predictions, which are matched with
the student's samples by their boxes. Some detectors with queries can classify
the same queries.

Shapes: S samples of a group; C columns of logits; B predictions of an image.
"""
from abc import ABCMeta, abstractmethod
from dataclasses import replace
from typing import Any, Callable, Iterator, List, Optional, Sequence, Type

import torch
from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..class_correspondence import ClassCorrespondence
from ..head_adapters import (ClassificationSamples, HeadAdapter, Observation,
                             Predictions)
from ..logits import class_probabilities
from .distillation_group import DistillationGroup
from .prediction_matching import best_by_overlap, match_sets, remove_duplicates

LogitConverter = Callable[[Tensor], Tensor]
SEE = 'see docs/how_to/teachers.md'


class SampleTransport(metaclass=ABCMeta):
    """A way to obtain teacher logits for the student's samples.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        decoder_layers (str): Decoder layers of a student with queries that
            are taught, 'last' or 'all'.

    Attributes:
        name (str): Name in ``teacher.transport``.
        classifies_student_samples (bool): Whether the teacher has logits for
            the samples of the student's own loss.
    """
    name: str
    classifies_student_samples = True

    def __init__(self, student: HeadAdapter, teacher: HeadAdapter,
                 decoder_layers: str) -> None:
        self._student, self._teacher = student, teacher
        self._all_layers = decoder_layers == 'all'

    @classmethod
    @abstractmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        """Explain why this transport cannot be used for two detectors.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.

        Returns:
            str, optional: Text that follows 'the teacher X and the student Y
            ...' in a message; None if the transport can be used.
        """

    @abstractmethod
    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        """Run the part of the teacher that comes before the student's loss.

        Args:
            images (Tensor): Images in the teacher's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            Any: First argument of :meth:`classify_samples`.
        """

    @abstractmethod
    def classify_samples(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            classes: ClassCorrespondence) -> Iterator[DistillationGroup]:
        """Compute the teacher's logits, one group after the other.

        Args:
            prepared (Any): Return value of :meth:`prepare_batch`; is emptied.
            observation (Observation): Samples that the student classified.
            convert_logits (callable): Function that converts logits of the
                teacher to calibrated logits of the shared classes, for the
                student's activation.
            classes (ClassCorrespondence): Shared classes; converts the
                student's samples to them.

        Yields:
            DistillationGroup: Logits for one group: for all samples, or only
            for those for which the teacher has logits.
        """

    def _layers(self, groups: Sequence[Any]) -> Sequence[int]:
        """Choose the groups that are distilled.

        All decoder layers classify the same queries, so that the last one may
        be sufficient. Each stage or level has its own samples.
        """
        if self._student.uses_queries and not self._all_layers:
            return [len(groups) - 1]
        return range(len(groups))


class SameSamples(SampleTransport):
    """Transport for two detectors with RoIs, or with the same priors."""

    name = 'same_samples'

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        if type(student) is not type(teacher):
            return (f'have different samples: the teacher classifies '
                    f'{teacher.sample_name} and the student '
                    f'{student.sample_name}')
        if not teacher.shares_samples:
            return f'classify different {teacher.sample_name}'
        return teacher.reason_against_student(student)

    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.prepare_batch(images, data_samples)

    def classify_samples(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            classes: ClassCorrespondence) -> Iterator[DistillationGroup]:
        groups = observation.groups
        with torch.no_grad():
            teacher_logits = self._teacher.classify_groups(prepared, groups)
        for position, group in enumerate(groups):
            # Each tensor is removed from the list when it is used, because
            # the logits of a dense head are large.
            yield DistillationGroup(
                classes.of_student(group),
                convert_logits(teacher_logits.pop(0)), classes.num_classes,
                position)


class RoIsAtBoxes(SampleTransport):
    """Transport in which an RoI head classifies boxes of the student."""

    name = 'rois_at_boxes'

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        if not teacher.classifies_boxes:
            return (f'do not fit: the teacher classifies '
                    f'{teacher.sample_name}, and cannot classify given boxes')
        return _reason_against_boxes(student)

    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.prepare_batch(images, data_samples)

    def classify_samples(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            classes: ClassCorrespondence) -> Iterator[DistillationGroup]:
        groups, boxes = observation.groups, observation.boxes()
        chosen = self._student.choose(groups)
        positions = self._layers(groups)
        rois = []
        for position in positions:
            image_index = groups[position].image_index
            index, corners = chosen[position], boxes[position]
            if index is not None:
                image_index, corners = image_index[index], corners[index]
            rois.append(
                torch.cat([image_index[:, None].to(corners), corners], dim=1))
        # One run of the head for all levels is faster than many small runs.
        all_rois = replace(groups[0], location=torch.cat(rois), stage=0)
        with torch.no_grad():
            roi_logits, = self._teacher.classify_groups(prepared, [all_rois])
        teacher_logits = roi_logits.split(
            [len(group_rois) for group_rois in rois])
        for position, logits in zip(positions, teacher_logits):
            group, index = groups[position], chosen[position]
            if index is not None:
                group = group.subset(index)
            yield DistillationGroup(
                classes.of_student(group), convert_logits(logits),
                classes.num_classes, position, index)


class MatchedPredictions(SampleTransport):
    """Transport that matches the teacher's own predictions with the samples.

    Queries of a student are matched one to one, by class and box. A sample of
    another student gets the logits of a confident prediction that overlaps
    it. A sample without a match is not taught: that a detector with other
    samples predicts nothing there does not prove background.
    """

    name = 'matched_predictions'

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        reason = teacher.reason_against_predicting()
        if reason is not None:
            return f'do not fit: the teacher {teacher.name} {reason}'
        return _reason_against_boxes(student)

    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        layers = self._teacher.predict(images, data_samples)
        if not self._all_layers:
            layers = layers[-1:]
        sizes = [sample.img_shape[:2] for sample in data_samples]
        return layers, sizes

    def classify_samples(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            classes: ClassCorrespondence) -> Iterator[DistillationGroup]:
        layers, sizes = prepared
        with torch.no_grad():
            layers = [
                _convert_predictions(layer, convert_logits) for layer in layers
            ]
        groups, boxes = observation.groups, observation.boxes()
        positions = self._layers(groups)
        chosen = self._student.choose(groups)
        for count, position in enumerate(positions, start=1):
            # Decoder layers of the two are paired by their relative depth.
            layer = layers[-(-count * len(layers) // len(positions)) - 1]
            group = groups[position]
            index, logits = self._matched(group, boxes[position],
                                          chosen[position], layer, sizes,
                                          classes)
            yield DistillationGroup(
                classes.of_student(group.subset(index)), logits,
                classes.num_classes, position, index)

    @torch.no_grad()
    def _matched(self, group: ClassificationSamples, boxes: Tensor,
                 chosen: Optional[Tensor], predictions: Predictions,
                 sizes: Sequence[tuple],
                 classes: ClassCorrespondence) -> tuple:
        """Match samples: their positions, ascending, and teacher logits."""
        if chosen is None:
            chosen = torch.arange(len(boxes), device=boxes.device)
        image_index = group.image_index[chosen]
        positions, teacher_logits = [], []
        for image, size in enumerate(sizes):
            index = chosen[image_index == image]
            predicted, logits = predictions.boxes[image], predictions.logits[
                image]
            scores = self._scores(logits, classes)
            if self._student.uses_queries:
                if not predictions.are_unique:
                    kept = remove_duplicates(predicted, scores)
                    predicted, logits, scores = (predicted[kept], logits[kept],
                                                 scores[kept])
                student_logits = classes.of_student(group.subset(index)).logits
                student_index, teacher_index = match_sets(
                    boxes[index], self._scores(student_logits, classes),
                    predicted, scores, size)
            else:
                student_index, teacher_index = best_by_overlap(
                    boxes[index], predicted, scores)
            positions.append(index[student_index])
            teacher_logits.append(logits[teacher_index])
        positions = torch.cat(positions)
        order = positions.argsort()
        return positions[order], torch.cat(teacher_logits)[order]

    def _scores(self, logits: Tensor, classes: ClassCorrespondence) -> Tensor:
        """Compute probabilities of the shared classes."""
        return class_probabilities(logits, self._student.activation,
                                   classes.num_classes)


class SharedQueries(SampleTransport):
    """Transport in which the student's decoder takes the teacher's queries.

    Both classify the same queries, so that nothing is matched. The student's
    decoder runs once more. The queries must be positions, which another
    decoder can use.
    """

    name = 'shared_queries'
    classifies_student_samples = False

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        for adapter in (student, teacher):
            if not adapter.uses_queries:
                return (f'do not fit: {adapter.name} classifies '
                        f'{adapter.sample_name}')
        return teacher.reason_against_sharing(student)

    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.predict_queries(images, data_samples)

    def classify_samples(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            classes: ClassCorrespondence) -> Iterator[DistillationGroup]:
        queries, teacher_logits = prepared
        device = observation.groups[0].logits.device
        # Dropout in this run must not change the random numbers of the
        # student's own training.
        with torch.random.fork_rng(
                devices=[device] if device.type == 'cuda' else []):
            groups = self._student.classify_queries(observation, queries)
        positions = self._layers(groups)
        for count, position in enumerate(positions, start=1):
            logits = teacher_logits[
                -(-count * len(teacher_logits) // len(positions)) - 1]
            yield DistillationGroup(
                classes.of_student(groups[position]), convert_logits(logits),
                classes.num_classes, position)


# In the order in which 'auto' tries them; 'auto' never takes the last one.
TRANSPORTS: List[Type[SampleTransport]] = [
    SameSamples, RoIsAtBoxes, MatchedPredictions, SharedQueries
]
TRANSPORT_NAMES = ('auto', *(transport.name for transport in TRANSPORTS))


def choose_transport(student: HeadAdapter, teacher: HeadAdapter,
                     name: str) -> Type[SampleTransport]:
    """Choose the transport for a student and a teacher.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        name (str): One of ``TRANSPORT_NAMES``. 'auto' is the first of
            'same_samples', 'rois_at_boxes' and 'matched_predictions' that can
            be used.

    Returns:
        type[SampleTransport]: Class of the transport.

    Raises:
        InvalidValueError: If the transport cannot be used for these two.
    """
    reasons = {
        transport: transport.reason_against(student, teacher)
        for transport in TRANSPORTS
    }
    candidates = [
        transport for transport in TRANSPORTS
        if name in ('auto', transport.name)
    ]
    if name == 'auto':
        candidates.remove(SharedQueries)
    for transport in candidates:
        if reasons[transport] is None:
            return transport
    both = f'the teacher {teacher.name} and the student {student.name}'
    explanation = '; '.join(f'{transport.name!r}: {both} {reasons[transport]}'
                            for transport in candidates)
    usable = [
        transport.name for transport in TRANSPORTS
        if reasons[transport] is None
    ]
    remedy = (f'use one of {usable}' if usable else 'choose another teacher')
    raise InvalidValueError(
        '`teacher.transport` must be possible for student and teacher, but '
        f'got {name!r} ({explanation}): {remedy}; {SEE}')


def _reason_against_boxes(student: HeadAdapter) -> Optional[str]:
    reason = student.reason_against_boxes()
    if reason is None:
        return None
    return f'do not fit: the student {student.name} {reason}'


def _convert_predictions(predictions: Predictions,
                         convert_logits: LogitConverter) -> Predictions:
    counts = [len(logits) for logits in predictions.logits]
    logits = convert_logits(torch.cat(predictions.logits)).split(counts)
    return replace(predictions, logits=list(logits))
