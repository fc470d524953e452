"""Term of losses on the change of logits when the images are perturbed."""
from dataclasses import replace
from typing import List, Optional

import torch
from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ...logits import GRADIENT_SCALE
from ...losses.igdm_loss import response
from ..distillation_group import DistillationGroup
from ..image_normalization import statistics_of
from ..sample_transport import SameSamples
from ..second_run import without_side_effects
from ..training_step import TeacherOutput, TrainingStep
from .logit_term import LogitTerm, distilled_loss


class PerturbedTerm(LogitTerm):
    """Term that compares how the logits of both respond to a perturbation.

    The images are shifted along the gradient of the student's own loss, in
    both directions. Both models run twice more, without side effects on
    buffers and random numbers.
    """

    takes_mixture = False

    @property
    def needs_image_gradient(self) -> bool:
        return self._loss.loss_weight > 0

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        if any(
                getattr(module, 'with_cp', False)
                for module in student.detector.modules()):
            return ('needs the gradient of the student\'s losses with respect '
                    'to the images, which the student\'s `with_cp=True` '
                    'prevents: train the student without it')
        reason = SameSamples.reason_against(student, teacher)
        return reason and (f'cannot teach it responses: the two {reason}: '
                           'choose a teacher of the same kind')

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        if not self.needs_image_gradient:
            return step.images.new_zeros(())
        self.check_same_samples(step, teacher_output)
        shift = self._perturbation(step)
        groups_of_sign = [
            self._classify_images(step, teacher_output, images)
            for images in (step.images.detach() + shift,
                           step.images.detach() - shift)
        ]
        return sum(
            distilled_loss(self._loss, _difference(*pair))
            for pair in zip(*groups_of_sign))

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        # The term uses other runs than the student's own loss. The two depend
        # on the same weights, but on no common activation.
        parts = step.student.parts
        return [
            weight for name, part in parts.items() if name.startswith('head.')
            for weight in part.parameters() if weight.requires_grad
        ]

    def _perturbation(self, step: TrainingStep) -> Tensor:
        """Compute the shift of the images, in the student's normalisation.

        The shift of the padding is 0.
        """
        detector = step.student.detector
        gradient, = torch.autograd.grad(
            step.total_loss * GRADIENT_SCALE,
            step.images,
            retain_graph=True,
            allow_unused=True)
        if gradient is None:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                'must be given a student whose losses depend on the images, '
                f'but those of the student {step.student.name} have no '
                'gradient there: choose another loss')
        _, std = statistics_of(detector.data_preprocessor)
        levels = (self._loss.epsilon / std).view(1, -1, 1, 1).to(gradient)
        # An overflow in half precision gives no information on the direction.
        return _without_padding(
            gradient.nan_to_num(nan=0.).sign() * levels, step.data_samples)

    def _classify_images(self, step: TrainingStep,
                         teacher_output: TeacherOutput,
                         images: Tensor) -> List[DistillationGroup]:
        """Classify the samples of the step in other images, with both."""
        student, groups = step.student, step.observation.groups
        with without_side_effects(student.detector, images):
            logits = student.classify_groups(
                student.prepare_batch(images, step.data_samples), groups)
        observation = replace(
            step.observation,
            groups=[
                replace(group, logits=group_logits)
                for group, group_logits in zip(groups, logits)
            ])
        return teacher_output.teacher.classify_images(images,
                                                      step.data_samples,
                                                      observation)


def _difference(plus: DistillationGroup,
                minus: DistillationGroup) -> DistillationGroup:
    samples = replace(
        plus.samples,
        logits=response(plus.samples.logits, minus.samples.logits))
    return replace(
        plus, samples=samples, logits=response(plus.logits, minus.logits))


def _without_padding(shift: Tensor, data_samples: SampleList) -> Tensor:
    """Set the shift of the padding to 0, in place."""
    for image, sample in zip(shift, data_samples):
        height, width = sample.img_shape[:2]
        image[:, height:] = 0
        image[:, :, width:] = 0
    return shift
