"""Samples that the student proposes, and the teacher accepts or replaces."""
from dataclasses import replace
from typing import Any, Iterator, List, Optional, Tuple, Type

import torch
from mmdet.structures import SampleList
from mmengine.logging import MessageHub
from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from ..class_correspondence import ClassCorrespondence
from ..head_adapters import (ClassificationSamples, HeadAdapter, Observation,
                             RoICandidates)
from ..logits import class_probabilities
from ..losses.random_stream import generator_of_draw
from .lesson import Lesson
from .sample_transport import SameSamples, SampleTransport, Translate
from .second_run import without_traces

# mmengine's logger prints what follows 'train/'.
RATE_KEY = 'train/acceptance_rate'


@MODELS.register_module()
class SpeculativeSamples:
    """RoIs that the teacher ranks badly give way to its own proposals.

    Of the RoIs that the student samples of an image, those are accepted that
    are among the ``top_k`` best by the teacher's calibrated probability of
    its most probable class. Each other is replaced by a proposal of the
    teacher's RPN (after its NMS), drawn by its score, so that an image keeps
    its number of RoIs. The losses of ``distill_losses`` see the mixed set,
    the student's own losses the set that the student sampled.

    Adapted: a RoI takes the place of a token. A token that is replaced
    changes all that follow; RoIs are no sequence, and each is judged alone.
    Reading taken: ranks are among the RoIs that the student sampled of the
    image, so that the share of accepted ones is ``top_k`` over their number.

    Args:
        top_k (int, optional): Number of RoIs of an image that are accepted at
            most, >= 0. 0 replaces all, which is distillation on the teacher's
            proposals; None accepts all, which is distillation on the
            student's.

    Raises:
        InvalidTypeError, InvalidValueError: If it is none of these.

    Example:
        >>> teacher = dict(
        ...     config='teacher.py',
        ...     checkpoint='teacher.pth',
        ...     sampling=dict(type='SpeculativeSamples', top_k=256))

    Reference: Xu et al., "Speculative Knowledge Distillation: Bridging the
    Teacher-Student Gap Through Interleaved Sampling", ICLR 2025,
    arXiv 2410.11325, algorithm 1.
    """

    def __init__(self, top_k: Optional[int]) -> None:
        self.top_k = (None if top_k is None else check_count(
            'top_k', top_k, lowest=0))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(top_k={self.top_k})'

    def check(self, student: HeadAdapter, teacher: HeadAdapter,
              transport: Optional[Type[SampleTransport]]) -> None:
        """Refuse two models that have no samples to exchange.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.
            transport (type, optional): The way to the student's samples;
                None where no loss asks for answers.

        Raises:
            InvalidValueError: If they have none.
        """
        reason = teacher.reason_against_exchange(student)
        if reason is None and transport is not SameSamples:
            reason = ('no loss of `distill_losses` asks for logits'
                      if transport is None else
                      f'the transport is {transport.name!r}, not '
                      f'{SameSamples.name!r}')
        if reason is not None:
            raise InvalidValueError(
                f'`teacher.sampling` {type(self).__name__} must be given RoIs '
                f'of a single stage to exchange, but of the teacher '
                f'{teacher.name} and the student {student.name} {reason}: '
                'leave it out, or choose another pair')

    def transport(self, student: HeadAdapter, teacher: HeadAdapter,
                  own: SampleTransport) -> SampleTransport:
        """The way to the mixed samples.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.
            own (SampleTransport): The way to the student's samples.
        """
        return own if self.top_k is None else _MixedSamples(
            student, teacher, self)

    def accepted(self, scores: Tensor, image_index: Tensor) -> Tensor:
        """Which samples of the student stay.

        Args:
            scores (Tensor): Probability that the teacher gives the most
                probable class, float, shape (S,).
            image_index (Tensor): Image of each sample, shape (S,).

        Returns:
            Tensor: Bool, shape (S,): at most ``top_k`` of each image, of
            equal ones the first.

        Example:
            >>> SpeculativeSamples(1).accepted(
            ...     torch.tensor([.2, .9, .4]), torch.tensor([0, 0, 1]))
            tensor([False,  True,  True])
        """
        accepted = torch.zeros_like(image_index, dtype=torch.bool)
        for image in image_index.unique():
            places = (image_index == image).nonzero(as_tuple=True)[0]
            order = scores[places].argsort(descending=True, stable=True)
            accepted[places[order[:self.top_k]]] = True
        return accepted

    @staticmethod
    def drawn(scores: Tensor, count: int,
              generator: torch.Generator) -> Tensor:
        """Proposals of an image that take the place of rejected samples.

        Args:
            scores (Tensor): Scores of its proposals, shape (P,).
            count (int): Number of rejected samples.
            generator (torch.Generator): Source of the draw, on the CPU.

        Returns:
            Tensor: Positions, int64, shape (count,), drawn with probability
            proportional to the scores; none twice where P >= count.
        """
        # A score may be rounded to 0, and is to be drawn last, not never.
        likely = scores.float().clamp(min=torch.finfo(torch.float32).tiny)
        return torch.multinomial(
            likely.cpu(),
            count,
            replacement=len(scores) < count,
            generator=generator).to(scores.device)


class _MixedSamples(SampleTransport):
    """Samples of the student, some of them exchanged.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        policy (SpeculativeSamples): Says which are exchanged.
    """

    name = f'{SameSamples.name}, speculative'
    asks_for_own_samples = False

    def __init__(self, student: HeadAdapter, teacher: HeadAdapter,
                 policy: SpeculativeSamples) -> None:
        super().__init__(student, teacher, 'last')
        self._policy = policy
        self._steps = 0

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        return teacher.reason_against_exchange(student)

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        # As for the student's samples: feature maps would take more memory.
        return images, data_samples

    def teach(self, seen: Any, observation: Observation, translate: Translate,
              classes: ClassCorrespondence) -> Iterator[Lesson]:
        group, = observation.groups
        # Assigners and samplers of some detectors draw random numbers.
        with without_traces(self._student.detector, group.logits):
            with torch.no_grad():
                answers, rejected, chosen = self._judged(
                    seen, observation, translate, classes.num_classes)
            if len(rejected):
                logits = self._student.classify(observation.features,
                                                chosen.rois)
                group = _replaced(group, rejected, chosen, logits)
        MessageHub.get_current_instance().update_scalar(
            RATE_KEY, 1 - len(rejected) / max(len(answers), 1))
        yield Lesson(classes.of_student(group), answers, classes.num_classes)

    def _judged(self, seen: Any, observation: Observation,
                translate: Translate,
                num_classes: int) -> Tuple[Tensor, Tensor, RoICandidates]:
        """The teacher's answers, and what it gives for rejected samples.

        Returns:
            tuple[Tensor, Tensor, RoICandidates]: Logits for the mixed samples
            of shape (S, C), positions of the R rejected, and what takes their
            place.
        """
        images, data_samples = seen
        group, = observation.groups
        maps = self._teacher.detector.extract_feat(images)
        answers = translate(self._teacher.classify(maps, group.where))
        scores = class_probabilities(answers, self._student.activation,
                                     num_classes).amax(dim=1)
        rejected, chosen = self._exchanged(
            group, self._policy.accepted(scores, group.image_index),
            self._candidates(observation, maps, data_samples))
        if len(rejected):
            others = translate(self._teacher.classify(maps, chosen.rois))
            answers = answers.index_copy(0, rejected, others)
        return answers, rejected, chosen

    def _candidates(self, observation: Observation, maps: Tuple[Tensor],
                    data_samples: SampleList) -> List[RoICandidates]:
        """Proposals of the teacher, with labels as the student has them."""
        proposals = self._teacher.propose(maps, data_samples)
        return self._student.candidates(observation.features, proposals,
                                        data_samples)

    def _generator(self) -> torch.Generator:
        """That of this step, apart from the student's stream.

        Of the runner's iteration, where there is a runner: a resumed training
        draws what an uninterrupted one does.
        """
        step = MessageHub.get_current_instance().get_info('iter', self._steps)
        self._steps += 1
        return generator_of_draw(torch.initial_seed(), step)

    def _exchanged(
            self, group: ClassificationSamples, accepted: Tensor,
            candidates: List[RoICandidates]) -> Tuple[Tensor, RoICandidates]:
        """Positions of the samples that are replaced, and by what."""
        generator = self._generator()
        rejected, chosen = [], []
        for image, offered in enumerate(candidates):
            places = (~accepted &
                      (group.image_index == image)).nonzero(as_tuple=True)[0]
            if len(places) == 0 or len(offered.rois) == 0:
                # Without a proposal all samples stay.
                continue
            rejected.append(places)
            chosen.append(
                offered.subset(
                    self._policy.drawn(offered.scores, len(places),
                                       generator)))
        if not rejected:
            return accepted.new_zeros(0, dtype=torch.long), candidates[0]
        return torch.cat(rejected), RoICandidates.joined(chosen)


def _replaced(group: ClassificationSamples, places: Tensor,
              chosen: RoICandidates, logits: Tensor) -> ClassificationSamples:
    """Samples with others at some places."""

    def exchanged(own, other):
        return None if own is None else own.index_copy(0, places,
                                                       other.to(own))

    return replace(
        group,
        logits=exchanged(group.logits, logits),
        where=exchanged(group.where, chosen.rois),
        labels=exchanged(group.labels, chosen.labels),
        weight=exchanged(group.weight, chosen.weight))
