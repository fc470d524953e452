"""Terms of losses on features of RoIs and on gradients of the RoI head."""
from typing import List, Optional

import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter, ModuleCall, recorded_calls
from ...losses.kdiga_loss import classification_gradient
from ..lesson import Lesson
from ..second_run import without_traces
from ..training_step import Taught, TrainingStep
from .term import Term, check_activation, without_graph_if_off

HEAD, CLASSIFIER = 'head.0', 'classifier.0'
# Ends of the names that torch gives to graph nodes without a derivative.
NO_DERIVATIVE = ('::Error', '::NotImplemented')


class RoITerm(Term):
    """Base class of terms on labelled RoIs of a single stage."""

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        both = (student, teacher)
        if all(one.classifies_boxes and one.num_stages == 1 for one in both):
            return None
        own, other = (f'{one.sample_name} in {one.num_stages} stage(s)'
                      for one in both)
        return (f'classifies {other}, and the student {own}, but the loss '
                'needs features of RoIs in a single stage of both: choose '
                'Faster R-CNN for both, or a loss on logits')

    def check_teacher(self, student: HeadAdapter,
                      teacher: HeadAdapter) -> None:
        super().check_teacher(student, teacher)
        check_activation(self.name, self._loss, student)

    def _lesson(self, step: TrainingStep, taught: Taught) -> Lesson:
        """Return the only lesson, and check its samples and labels."""
        self.check_same_samples(step, taught)
        lesson, = taught.lessons
        if lesson.samples.labels is None:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                'must be given the assigned class of each RoI, but they '
                'cannot be read from the loss of the student '
                f'{step.student.name}: choose a loss on logits')
        return lesson


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

    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        lesson = self._lesson(step, taught)
        features, = self.acts_on(step, taught)
        return self._loss(
            without_graph_if_off(self._loss, features), lesson.logits,
            lesson.samples.labels, lesson.samples.weight,
            lesson.samples.avg_factor)

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
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

    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        if self._loss.loss_weight == 0:
            return step.images.new_zeros(())
        samples = self._lesson(step, taught).samples
        features, = self.acts_on(step, taught)
        if HEAD not in taught.calls:
            # The teacher's head does not run if no RoI is sampled.
            return features.sum() * 0
        own = classification_gradient(
            samples.logits, samples.labels, features, create_graph=True)
        other = self._of_teacher(taught, samples.labels)
        return self._loss(own, other, samples.weight, samples.avg_factor)

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
        return [step.calls[HEAD].inputs[0]]

    @staticmethod
    def _of_teacher(taught: Taught, labels: Tensor) -> Tensor:
        """Run the teacher's head once more to get its gradient."""
        call: ModuleCall = taught.calls[HEAD]
        features = call.inputs[0].detach().requires_grad_()
        with torch.enable_grad():
            logits = taught.adapter.classify_features(
                (features, *call.inputs[1:]))
            return classification_gradient(
                taught.teacher.translate(logits), labels, features)


def _differentiates_twice(student: HeadAdapter) -> bool:
    """Check whether the gradient at the head's input has a derivative."""
    weight = next(student.detector.parameters())
    with without_traces(student.detector, weight), torch.enable_grad(), \
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
            nodes += [before for before, _ in node.next_functions]
    return True
