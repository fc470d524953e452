"""Samples of the student that the teacher accepts or replaces."""
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
from .distillation_group import DistillationGroup
from .sample_transport import LogitConverter, SameSamples, SampleTransport
from .second_run import without_side_effects

# mmengine's logger prints the part after 'train/'.
RATE_KEY = 'train/acceptance_rate'


@MODELS.register_module()
class SpeculativeSamples:
    """Replace RoIs that the teacher ranks low by the teacher's proposals.

    The RoIs that the student samples in an image are ranked by the teacher's
    calibrated probability of its most probable class. The ``top_k`` best are
    accepted. Each other RoI is replaced by a proposal of the teacher's RPN
    (after its NMS), drawn with a probability proportional to its score, so
    that the number of RoIs per image does not change. The losses of
    ``distill_losses`` use the mixed set; the student's own losses use the set
    that the student sampled.

    Difference from the paper: an RoI takes the place of a token. A replaced
    token changes all tokens that follow, but RoIs are not a sequence, and
    each is accepted or replaced independently of the others.

    Interpretation: ranks are computed among the RoIs that the student samples
    in the image, so that the share of accepted RoIs is ``top_k`` divided by
    their number.

    Args:
        top_k (int, optional): Largest number of accepted RoIs per image,
            >= 0. 0 replaces all RoIs, which is distillation on the teacher's
            proposals; None accepts all, which is distillation on the
            student's RoIs.

    Raises:
        InvalidTypeError: If ``top_k`` is neither an int nor None.
        InvalidValueError: If ``top_k`` is negative.

    Example:
        >>> teacher = dict(
        ...     config='teacher.py',
        ...     checkpoint='teacher.pth',
        ...     sampling=dict(type='SpeculativeSamples', top_k=256))

    Reference:
        Xu et al., "Speculative Knowledge Distillation: Bridging the
        Teacher-Student Gap Through Interleaved Sampling", ICLR 2025,
        arXiv 2410.11325, Algorithm 1.
    """

    def __init__(self, top_k: Optional[int]) -> None:
        self.top_k = (None if top_k is None else check_count(
            'top_k', top_k, lowest=0))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(top_k={self.top_k})'

    def check(self, student: HeadAdapter, teacher: HeadAdapter,
              transport: Optional[Type[SampleTransport]]) -> None:
        """Refuse two detectors whose samples cannot be exchanged.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.
            transport (type[SampleTransport], optional): Transport for the
                student's samples; None if no loss uses the teacher's logits.

        Raises:
            InvalidValueError: If their samples cannot be exchanged.
        """
        reason = teacher.reason_against_exchange(student)
        if reason is None and transport is not SameSamples:
            reason = ('no loss of `distill_losses` needs the logits'
                      if transport is None else
                      f'the transport is {transport.name!r}, not '
                      f'{SameSamples.name!r}')
        if reason is not None:
            raise InvalidValueError(
                f'`teacher.sampling` {type(self).__name__} must exchange RoIs '
                f'of a single stage, but the teacher {teacher.name} and the '
                f'student {student.name} cannot exchange them, as {reason}: '
                'leave it out, or choose another pair')

    def transport(self, student: HeadAdapter, teacher: HeadAdapter,
                  student_transport: SampleTransport) -> SampleTransport:
        """Create the transport for the mixed samples.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.
            student_transport (SampleTransport): Transport for the student's
                samples.

        Returns:
            SampleTransport: Transport for the mixed samples;
            ``student_transport`` if all samples are accepted.
        """
        return student_transport if self.top_k is None else _MixedSamples(
            student, teacher, self)

    def accepted_mask(self, scores: Tensor, image_index: Tensor) -> Tensor:
        """Choose the samples of the student that are accepted.

        Args:
            scores (Tensor): Probability of the teacher's most probable class,
                float, shape (S,).
            image_index (Tensor): Position of each sample's image in the
                batch, int64, shape (S,).

        Returns:
            Tensor: Mask of the accepted samples, bool, shape (S,): at most
            ``top_k`` per image. Among equal scores the first are accepted.

        Example:
            >>> SpeculativeSamples(1).accepted_mask(
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
    def draw_proposals(scores: Tensor, count: int,
                       generator: torch.Generator) -> Tensor:
        """Draw proposals of an image that replace the rejected samples.

        Args:
            scores (Tensor): Scores of the P proposals, shape (P,).
            count (int): Number of rejected samples.
            generator (torch.Generator): Random generator on the CPU.

        Returns:
            Tensor: Positions, int64, shape (count,), drawn with probability
            proportional to the scores; without replacement if P >= count.
        """
        # A score that is rounded to 0 must still be drawn, after all others.
        weights = scores.float().clamp(min=torch.finfo(torch.float32).tiny)
        return torch.multinomial(
            weights.cpu(),
            count,
            replacement=len(scores) < count,
            generator=generator).to(scores.device)


class _MixedSamples(SampleTransport):
    """Transport for samples of the student, some of which are replaced.

    Args:
        student (HeadAdapter): Adapter of the student.
        teacher (HeadAdapter): Adapter of the teacher.
        policy (SpeculativeSamples): Rule that chooses the replaced samples.
    """

    name = f'{SameSamples.name}, speculative'
    classifies_student_samples = False

    def __init__(self, student: HeadAdapter, teacher: HeadAdapter,
                 policy: SpeculativeSamples) -> None:
        super().__init__(student, teacher, 'last')
        self._policy = policy
        self._steps = 0

    @classmethod
    def reason_against(cls, student: HeadAdapter,
                       teacher: HeadAdapter) -> Optional[str]:
        return teacher.reason_against_exchange(student)

    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        # Images need less memory than feature maps.
        return images, data_samples

    def classify_samples(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            classes: ClassCorrespondence) -> Iterator[DistillationGroup]:
        group, = observation.groups
        # Assigners and samplers of some detectors use random numbers.
        with without_side_effects(self._student.detector, group.logits):
            with torch.no_grad():
                teacher_logits, rejected, proposals = self._accept_or_replace(
                    prepared, observation, convert_logits, classes.num_classes)
            if len(rejected):
                logits = self._student.classify(observation.features,
                                                proposals.rois)
                group = _replaced(group, rejected, proposals, logits)
        MessageHub.get_current_instance().update_scalar(
            RATE_KEY, 1 - len(rejected) / max(len(teacher_logits), 1))
        yield DistillationGroup(
            classes.of_student(group), teacher_logits, classes.num_classes)

    def _accept_or_replace(
            self, prepared: Any, observation: Observation,
            convert_logits: LogitConverter,
            num_classes: int) -> Tuple[Tensor, Tensor, RoICandidates]:
        """Compute the teacher's logits, and replace rejected samples.

        Returns:
            tuple[Tensor, Tensor, RoICandidates]: Logits of the mixed samples,
            shape (S, C); positions of the R rejected samples, shape (R,);
            the R proposals that replace them.
        """
        images, data_samples = prepared
        group, = observation.groups
        maps = self._teacher.detector.extract_feat(images)
        logits = convert_logits(self._teacher.classify(maps, group.location))
        scores = class_probabilities(logits, self._student.activation,
                                     num_classes).amax(dim=1)
        rejected, proposals = self._choose_replacements(
            group, self._policy.accepted_mask(scores, group.image_index),
            self._candidates(observation, maps, data_samples))
        if len(rejected):
            replacements = convert_logits(
                self._teacher.classify(maps, proposals.rois))
            logits = logits.index_copy(0, rejected, replacements)
        return logits, rejected, proposals

    def _candidates(self, observation: Observation, maps: Tuple[Tensor],
                    data_samples: SampleList) -> List[RoICandidates]:
        """Compute the teacher's proposals, with labels of the student."""
        proposals = self._teacher.propose(maps, data_samples)
        return self._student.candidates(observation.features, proposals,
                                        data_samples)

    def _generator(self) -> torch.Generator:
        """Create a random generator for this step.

        It is independent of the student's random numbers. It depends on the
        iteration of the runner, if there is one, so that a resumed training
        draws the same samples as an uninterrupted one.
        """
        step = MessageHub.get_current_instance().get_info('iter', self._steps)
        self._steps += 1
        return generator_of_draw(torch.initial_seed(), step)

    def _choose_replacements(
            self, group: ClassificationSamples, accepted: Tensor,
            candidates: List[RoICandidates]) -> Tuple[Tensor, RoICandidates]:
        """Choose the replaced samples, and the proposals for them."""
        generator = self._generator()
        rejected, chosen = [], []
        for image, proposals in enumerate(candidates):
            places = (~accepted &
                      (group.image_index == image)).nonzero(as_tuple=True)[0]
            if len(places) == 0 or len(proposals.rois) == 0:
                # Without a proposal no sample can be replaced.
                continue
            rejected.append(places)
            chosen.append(
                proposals.subset(
                    self._policy.draw_proposals(proposals.scores, len(places),
                                                generator)))
        if not rejected:
            return accepted.new_zeros(0, dtype=torch.long), candidates[0]
        return torch.cat(rejected), RoICandidates.joined(chosen)


def _replaced(group: ClassificationSamples, places: Tensor,
              proposals: RoICandidates,
              logits: Tensor) -> ClassificationSamples:
    """Replace the samples at some positions of a group."""

    def replace_rows(values, new_values):
        return None if values is None else values.index_copy(
            0, places, new_values.to(values))

    return replace(
        group,
        logits=replace_rows(group.logits, logits),
        location=replace_rows(group.location, proposals.rois),
        labels=replace_rows(group.labels, proposals.labels),
        weight=replace_rows(group.weight, proposals.weight))
