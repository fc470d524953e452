"""How a teacher comes to speak of what its student classified.

The same samples, where both classify RoIs or both the same priors; a teacher
with RoIs at the boxes of a student that has none; or the teacher's own
predictions, matched with the student's by their boxes.

Shapes: S samples of a group, C columns of logits, B predictions of an image.
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
SEE = 'see docs/teachers.md'


class SampleTransport(metaclass=ABCMeta):
    """A way from the student's samples to the teacher's answers.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        decoder_layers (str): 'last' or 'all', those of a student with
            queries.

    Attributes:
        name (str): What `teacher.transport` calls it.
        asks_for_own_samples (bool): Whether the samples that are taught are
            those of the student's own loss.
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
        """Why it cannot serve these two; None if it can.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.

        Returns:
            str, optional: What follows 'the teacher X and the student Y ...'.
        """

    @abstractmethod
    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        """What the teacher computes before the student's loss runs.

        Args:
            images (Tensor): In the teacher's normalisation, (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images.

        Returns:
            Any: What :meth:`teach` takes.
        """

    @abstractmethod
    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        """The teacher's answers, a group after the other.

        Args:
            seen (Any): What :meth:`look` returned; is emptied.
            observation (Observation): What the student classified.
            translate (callable): The teacher's logits, calibrated, of the
                shared classes, in the student's activation.
            classes (ClassCorrespondence): Gives the student's samples.

        Yields:
            Lesson: Of one group, or of its samples that have a counterpart.
        """

    def _layers(self, groups: Sequence[Any]) -> Sequence[int]:
        """Positions of the groups that are taught.

        Decoder layers are later answers to one question; stages, levels and
        their samples are not.
        """
        if self._student.answers_by_queries and not self._all_layers:
            return [len(groups) - 1]
        return range(len(groups))


class SameSamples(SampleTransport):
    """The teacher classifies the student's RoIs, or has the same priors."""

    name = 'same_samples'

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        if type(student) is not type(teacher):
            return (f'have other samples: the teacher classifies '
                    f'{teacher.sample_name} and the student '
                    f'{student.sample_name}')
        if not teacher.shares_samples:
            return f'classify {teacher.sample_name}, each its own'
        return teacher.reason_against_student(student)

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        return self._teacher.look(images, data_samples)

    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        groups = observation.groups
        with torch.no_grad():
            answers = self._teacher.answer(seen, groups)
        for position, group in enumerate(groups):
            # One after the other leaves the list: a dense head's are large.
            yield Lesson(
                classes.of_student(group), translate(answers.pop(0)),
                classes.num_classes, position)


class RoIsAtBoxes(SampleTransport):
    """A teacher with RoIs classifies the boxes that the student predicts."""

    name = 'rois_at_boxes'

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        if not teacher.classifies_boxes:
            return (f'do not fit: the teacher classifies '
                    f'{teacher.sample_name}, and no box that it is given')
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
        # All at once: a run of the head for each level would be a small one.
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
    """The teacher's own predictions, for samples whose boxes they share.

    A student with queries is matched one to one, by class and box; a sample
    of another student takes the answer of the confident prediction that it
    overlaps. A sample without a counterpart is not taught: silence of a
    detector with other samples is not evidence of background.
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
            # The layer at the same share of the way to the last.
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
        """Positions of matched samples, ascending, and their answers."""
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
        """Probabilities of the shared classes."""
        return class_probabilities(logits, self._student.activation,
                                   classes.num_classes)


class SharedQueries(SampleTransport):
    """The student's decoder answers the teacher's queries, once more.

    Both speak of the same queries: nothing is matched. For detectors whose
    queries are points that another decoder can be asked at.
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
        # Dropout of this run must not move the random stream on which the
        # student's own training depends.
        with torch.random.fork_rng(
                devices=[device] if device.type == 'cuda' else []):
            groups = self._student.ask(observation, queries)
        taught = self._layers(groups)
        for count, position in enumerate(taught, start=1):
            logits = answers[-(-count * len(answers) // len(taught)) - 1]
            yield Lesson(
                classes.of_student(groups[position]), translate(logits),
                classes.num_classes, position)


# In the order in which 'auto' takes them; the last is only taken by name.
TRANSPORTS: List[Type[SampleTransport]] = [
    SameSamples, RoIsAtBoxes, MatchedPredictions, SharedQueries
]
TRANSPORT_NAMES = ('auto', *(one.name for one in TRANSPORTS))


def choose_transport(student: HeadAdapter, teacher: HeadAdapter,
                     name: str) -> Type[SampleTransport]:
    """The transport of a pair.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        name (str): One of ``TRANSPORT_NAMES``; 'auto' for the first that
            serves, of 'same_samples', 'rois_at_boxes', 'matched_predictions'.

    Raises:
        InvalidValueError: If it cannot serve these two.
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
    remedy = (f'these two can have {serving}'
              if serving else 'choose another teacher')
    raise InvalidValueError(
        f'`teacher.transport` must be one that can serve, but got {name!r} '
        f'({why}): {remedy}; {SEE}')


def _reason_against_boxes(student: HeadAdapter) -> Optional[str]:
    reason = student.reason_against_boxes()
    if reason is None:
        return None
    return f'do not fit: the student {student.name} {reason}'


def _translated(predictions: Predictions, translate: Translate) -> Predictions:
    counts = [len(one) for one in predictions.logits]
    logits = translate(torch.cat(predictions.logits)).split(counts)
    return replace(predictions, logits=list(logits))
