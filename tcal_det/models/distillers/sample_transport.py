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
from .lesson import Lesson
from .prediction_matching import best_by_overlap, match_sets, unique

Translate = Callable[[Tensor], Tensor]
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
        asks_for_own_samples (bool): Whether the teacher has logits for the
            samples of the student's own loss.
    """
    name: str
    asks_for_own_samples = True

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
    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        """Run the part of the teacher that comes before the student's loss.

        Args:
            images (Tensor): Images in the teacher's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            Any: First argument of :meth:`teach`.
        """

    @abstractmethod
    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        """Compute the teacher's logits, one group after the other.

        Args:
            seen (Any): Return value of :meth:`look`; is emptied.
            observation (Observation): Samples that the student classified.
            translate (callable): Function that converts logits of the teacher
                to calibrated logits of the shared classes, for the student's
                activation.
            classes (ClassCorrespondence): Shared classes; converts the
                student's samples to them.

        Yields:
            Lesson: Lesson of one group, on all samples or only on those for
            which the teacher has logits.
        """

    def _layers(self, groups: Sequence[Any]) -> Sequence[int]:
        """Choose the groups that are taught.

        All decoder layers classify the same queries, so that the last one may
        be sufficient. Each stage or level has its own samples.
        """
        if self._student.answers_by_queries and not self._all_layers:
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

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.look(images, data_samples)

    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        groups = observation.groups
        with torch.no_grad():
            answers = self._teacher.answer(seen, groups)
        for position, group in enumerate(groups):
            # Each tensor is removed from the list when it is used, because
            # the logits of a dense head are large.
            yield Lesson(
                classes.of_student(group), translate(answers.pop(0)),
                classes.num_classes, position)


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

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.look(images, data_samples)

    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        groups, boxes = observation.groups, observation.boxes()
        chosen = self._student.choose(groups)
        taught = self._layers(groups)
        rois = []
        for position in taught:
            image_index = groups[position].image_index
            index, places = chosen[position], boxes[position]
            if index is not None:
                image_index, places = image_index[index], places[index]
            rois.append(
                torch.cat([image_index[:, None].to(places), places], dim=1))
        # One run of the head for all levels is faster than many small runs.
        asked = replace(groups[0], where=torch.cat(rois), stage=0)
        with torch.no_grad():
            answer, = self._teacher.answer(seen, [asked])
        answers = answer.split([len(one) for one in rois])
        for position, logits in zip(taught, answers):
            group, index = groups[position], chosen[position]
            if index is not None:
                group = group.subset(index)
            yield Lesson(
                classes.of_student(group), translate(logits),
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

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        layers = self._teacher.predict(images, data_samples)
        if not self._all_layers:
            layers = layers[-1:]
        sizes = [sample.img_shape[:2] for sample in data_samples]
        return layers, sizes

    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        layers, sizes = seen
        with torch.no_grad():
            layers = [_translated(layer, translate) for layer in layers]
        groups, boxes = observation.groups, observation.boxes()
        taught = self._layers(groups)
        chosen = self._student.choose(groups)
        for count, position in enumerate(taught, start=1):
            # Decoder layers of the two are paired by their relative depth.
            layer = layers[-(-count * len(layers) // len(taught)) - 1]
            group = groups[position]
            index, logits = self._matched(group, boxes[position],
                                          chosen[position], layer, sizes,
                                          classes)
            yield Lesson(
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
        positions, answers = [], []
        for image, size in enumerate(sizes):
            index = chosen[image_index == image]
            found, logits = predictions.boxes[image], predictions.logits[image]
            scores = self._scores(logits, classes)
            if self._student.answers_by_queries:
                if not predictions.are_unique:
                    kept = unique(found, scores)
                    found, logits, scores = (found[kept], logits[kept],
                                             scores[kept])
                own = classes.of_student(group.subset(index)).logits
                mine, theirs = match_sets(boxes[index],
                                          self._scores(own, classes), found,
                                          scores, size)
            else:
                mine, theirs = best_by_overlap(boxes[index], found, scores)
            positions.append(index[mine])
            answers.append(logits[theirs])
        positions = torch.cat(positions)
        order = positions.argsort()
        return positions[order], torch.cat(answers)[order]

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
    asks_for_own_samples = False

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        for adapter in (student, teacher):
            if not adapter.answers_by_queries:
                return (f'do not fit: {adapter.name} classifies '
                        f'{adapter.sample_name}')
        return teacher.reason_against_sharing(student)

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.asked(images, data_samples)

    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        queries, answers = seen
        device = observation.groups[0].logits.device
        # Dropout in this run must not change the random numbers of the
        # student's own training.
        with torch.random.fork_rng(
                devices=[device] if device.type == 'cuda' else []):
            groups = self._student.ask(observation, queries)
        taught = self._layers(groups)
        for count, position in enumerate(taught, start=1):
            logits = answers[-(-count * len(answers) // len(taught)) - 1]
            yield Lesson(
                classes.of_student(groups[position]), translate(logits),
                classes.num_classes, position)


# In the order in which 'auto' tries them; 'auto' never takes the last one.
TRANSPORTS: List[Type[SampleTransport]] = [
    SameSamples, RoIsAtBoxes, MatchedPredictions, SharedQueries
]
TRANSPORT_NAMES = ('auto', *(one.name for one in TRANSPORTS))


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
    reasons = {one: one.reason_against(student, teacher) for one in TRANSPORTS}
    wanted = [one for one in TRANSPORTS if name in ('auto', one.name)]
    if name == 'auto':
        wanted.remove(SharedQueries)
    for one in wanted:
        if reasons[one] is None:
            return one
    both = f'the teacher {teacher.name} and the student {student.name}'
    why = '; '.join(f'{one.name!r}: {both} {reasons[one]}' for one in wanted)
    serving = [one.name for one in TRANSPORTS if reasons[one] is None]
    remedy = (f'use one of {serving}' if serving else 'choose another teacher')
    raise InvalidValueError(
        '`teacher.transport` must be possible for student and teacher, but '
        f'got {name!r} ({why}): {remedy}; {SEE}')


def _reason_against_boxes(student: HeadAdapter) -> Optional[str]:
    reason = student.reason_against_boxes()
    if reason is None:
        return None
    return f'do not fit: the student {student.name} {reason}'


def _translated(predictions: Predictions, translate: Translate) -> Predictions:
    counts = [len(one) for one in predictions.logits]
    logits = translate(torch.cat(predictions.logits)).split(counts)
    return replace(predictions, logits=list(logits))
