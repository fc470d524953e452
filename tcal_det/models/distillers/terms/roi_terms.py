"""Losses on what an RoI head computes of the student's samples."""
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
# Names that torch gives to nodes of a graph.
NO_DERIVATIVE = ('::Error', '::NotImplemented')


class RoITerm(Term):
    """Losses on features of RoIs, of one stage, with their labels."""

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        both = (student, teacher)
        if all(one.classifies_boxes and one.num_stages == 1 for one in both):
            return None
        own, other = (f'{one.sample_name} in {one.num_stages} stage(s)'
                      for one in both)
        return (f'classifies {other}, and the student {own}, but the features '
                'must be of RoIs, in one stage of each: choose Faster R-CNN '
                'for both, or a loss on logits')

    def check_teacher(self, student: HeadAdapter,
                      teacher: HeadAdapter) -> None:
        super().check_teacher(student, teacher)
        check_activation(self.name, self._loss, student)

    def _lesson(self, step: TrainingStep, taught: Taught) -> Lesson:
        """The only one, of the student's own samples, with labels."""
        self.check_same_samples(step, taught)
        lesson, = taught.lessons
        if lesson.samples.labels is None:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                'must be given the assigned class of each RoI, but the loss '
                f'of the student {step.student.name} does not tell them: '
                'choose a loss on logits')
        return lesson


class StateTerm(RoITerm):
    """Features of the student's classification layer."""

    student_parts = (CLASSIFIER, )

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        reason = super().reason_against_teacher(student, teacher)
        if reason is None and CLASSIFIER not in student.parts:
            head = type(student.parts[HEAD]).__name__
            return (f'cannot teach it states: the {head} of the student has '
                    'no layer `fc_cls`, whose features are read: choose a '
                    'loss on logits')
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
    """Gradients of the classification at the features of both."""

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
            # No RoI was sampled.
            return features.sum() * 0
        own = classification_gradient(
            samples.logits, samples.labels, features, create_graph=True)
        other = self._of_teacher(taught, samples.labels)
        return self._loss(own, other, samples.weight, samples.avg_factor)

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
        return [step.calls[HEAD].inputs[0]]

    @staticmethod
    def _of_teacher(taught: Taught, labels: Tensor) -> Tensor:
        """Its head runs once more, on the features that it was given."""
        call: ModuleCall = taught.calls[HEAD]
        features = call.inputs[0].detach().requires_grad_()
        with torch.enable_grad():
            logits = taught.adapter.classify_features(
                (features, *call.inputs[1:]))
            return classification_gradient(
                taught.teacher.translate(logits), labels, features)


def _differentiates_twice(student: HeadAdapter) -> bool:
    """Whether a gradient at the head's input can be trained."""
    weight = next(student.detector.parameters())
    with without_traces(student.detector, weight), torch.enable_grad(), \
            recorded_calls({HEAD: student.parts[HEAD]}) as calls:
        student.probe()
    features, logits = calls[HEAD].inputs[0], calls[HEAD].output[0]
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    gradient = classification_gradient(
        logits, labels, features, create_graph=True)
    # What has no derivative leaves a node that raises when it is reached: to
    # reach it would take a backward to the parameters.
    nodes, seen = [gradient.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            if node.name().endswith(NO_DERIVATIVE):
                return False
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    return True
