"""Terms of losses on features of RoIs and on gradients of the RoI head."""
from typing import List, Optional

import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter, ModuleCall, recorded_calls
from ...losses.kdiga_loss import classification_gradient
from ..distillation_group import DistillationGroup
from ..second_run import without_side_effects
from ..training_step import TeacherOutput, TrainingStep
from .term import Term, check_activation, without_graph_if_off

HEAD, CLASSIFIER = 'head.0', 'classifier.0'
# Ends of the names that torch gives to graph nodes without a derivative.
NO_DERIVATIVE = ('::Error', '::NotImplemented')


class RoITerm(Term):
    """Base class of terms on labelled RoIs of a single stage."""

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        both = (student, teacher)
        if all(adapter.classifies_boxes and adapter.num_stages == 1
               for adapter in both):
            return None
        student_samples, teacher_samples = (
            f'{adapter.sample_name} in {adapter.num_stages} stage(s)'
            for adapter in both)
        return (f'classifies {teacher_samples}, and the student '
                f'{student_samples}, but the loss needs features of RoIs in a '
                'single stage of both: choose Faster R-CNN for both, or a '
                'loss on logits')

    def check_teacher(self, student: HeadAdapter,
                      teacher: HeadAdapter) -> None:
        super().check_teacher(student, teacher)
        check_activation(self.name, self._loss, student)

    def _labelled_group(self, step: TrainingStep,
                        teacher_output: TeacherOutput) -> DistillationGroup:
        """Return the only group, and check its samples and labels."""
        self.check_same_samples(step, teacher_output)
        distill_group, = teacher_output.distill_groups
        if distill_group.samples.labels is None:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                'must be given the assigned class of each RoI, but they '
                'cannot be read from the loss of the student '
                f'{step.student.name}: choose a loss on logits')
        return distill_group


class StateTerm(RoITerm):
    """Term on the input features of the student's classification layer."""

    student_parts = (CLASSIFIER, )

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        reason = super().reason_against_teacher(student, teacher)
        if reason is None and CLASSIFIER not in student.parts:
            head = type(student.parts[HEAD]).__name__
            return (f'cannot teach it states: the {head} of the student has '
                    'no layer `fc_cls`, whose input features are needed: '
                    'choose a loss on logits')
        return reason

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        distill_group = self._labelled_group(step, teacher_output)
        features, = self.acts_on(step, teacher_output)
        return self._loss(
            without_graph_if_off(self._loss, features), distill_group.logits,
            distill_group.samples.labels, distill_group.samples.weight,
            distill_group.samples.avg_factor)

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        return [step.calls[CLASSIFIER].inputs[0]]


class GradientTerm(RoITerm):
    """Term that compares gradients of the classification loss of both.

    The gradients are those with respect to the input features of the head.
    """

    student_parts = teacher_parts = (HEAD, )

    def check_teacher(self, student: HeadAdapter,
                      teacher: HeadAdapter) -> None:
        super().check_teacher(student, teacher)
        if not any(
                weight.requires_grad for name in ('backbone', 'neck')
                for weight in student.parts[name].parameters()):
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                'must be given features that are trained, but backbone and '
                f'neck of the student {student.name} are frozen: choose a '
                'loss on logits')
        if not _differentiates_twice(student):
            head = student.parts[HEAD]
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                f'must be given a head that is differentiable twice, but the '
                f'{type(head).__name__} of the student {student.name} is not: '
                'choose IGDMLoss, which needs no second derivative')

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        if self._loss.loss_weight == 0:
            return step.images.new_zeros(())
        samples = self._labelled_group(step, teacher_output).samples
        features, = self.acts_on(step, teacher_output)
        if HEAD not in teacher_output.calls:
            # The teacher's head does not run if no RoI is sampled.
            return features.sum() * 0
        student_gradient = classification_gradient(
            samples.logits, samples.labels, features, create_graph=True)
        teacher_gradient = self._teacher_gradient(teacher_output,
                                                  samples.labels)
        return self._loss(student_gradient, teacher_gradient, samples.weight,
                          samples.avg_factor)

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        return [step.calls[HEAD].inputs[0]]

    @staticmethod
    def _teacher_gradient(teacher_output: TeacherOutput,
                          labels: Tensor) -> Tensor:
        """Run the teacher's head once more to get its gradient."""
        call: ModuleCall = teacher_output.calls[HEAD]
        features = call.inputs[0].detach().requires_grad_()
        with torch.enable_grad():
            logits = teacher_output.adapter.classify_features(
                (features, *call.inputs[1:]))
            return classification_gradient(
                teacher_output.teacher.convert_logits(logits), labels,
                features)


def _differentiates_twice(student: HeadAdapter) -> bool:
    """Check whether the gradient at the head's input has a derivative."""
    weight = next(student.detector.parameters())
    with without_side_effects(student.detector, weight), torch.enable_grad(), \
            recorded_calls({HEAD: student.parts[HEAD]}) as calls:
        student.probe()
    features, logits = calls[HEAD].inputs[0], calls[HEAD].output[0]
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    gradient = classification_gradient(
        logits, labels, features, create_graph=True)
    # An operation without a derivative leaves a node that raises an error in
    # a backward pass to the parameters. Its name shows this without one.
    nodes, seen = [gradient.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            if node.name().endswith(NO_DERIVATIVE):
                return False
            seen.add(node)
            nodes += [parent for parent, _ in node.next_functions]
    return True
