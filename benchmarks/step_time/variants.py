"""Compared training steps, which start from equal weights."""
from typing import Callable, Dict, List, Optional

import torch
from mmdet.structures import SampleList
from mmengine.model import BaseModel
from torch import Tensor, nn

from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.losses import LogitKLDivLoss
from .mmrazor import UnavailableError, single_teacher_distill
from .workload import Step, Workload


def plain(workload: Workload) -> Step:
    """Prepare the training step of the student alone."""
    return workload.training_step(workload.student())


def ours(workload: Workload) -> Step:
    """Prepare the training step of CalibratedTeacherDistiller."""
    return workload.training_step(workload.distiller())


def teacher(workload: Workload) -> Step:
    """Prepare the forward pass of the teacher that distillation needs.

    It runs backbone, neck and head on the student's samples, without
    gradient, of the unchanged detector of the config.
    """
    return _classification(workload, workload.teacher())


def teacher_as_ours(workload: Workload) -> Step:
    """Prepare the forward pass of the detector inside FrozenTeacher."""
    return _classification(workload, workload.distiller().teacher.detector)


def _classification(workload: Workload, detector: nn.Module) -> Step:
    student = workload.student()
    adapter = adapter_for(detector, 'teacher')

    def prepare(seed: int) -> Callable[[], List[Tensor]]:
        images, groups = workload.samples_of(student, seed)

        def forward() -> List[Tensor]:
            with torch.no_grad(), workload.autocast():
                return adapter.classify_groups(
                    adapter.prepare_batch(images, []), groups)

        return forward

    return prepare


def naive(workload: Workload) -> Step:
    """Prepare the training step of :class:`NaiveDistiller`.

    Args:
        workload (Workload): Models and batches.

    Returns:
        Step: Function that prepares the step on a batch.

    Raises:
        UnavailableError: If the detectors have no RoI heads.
    """
    _refuse_dense(workload)
    return workload.training_step(
        NaiveDistiller(workload.student(), workload.teacher()))


def mmrazor(workload: Workload) -> Step:
    """Prepare the training step of mmrazor's SingleTeacherDistill.

    Args:
        workload (Workload): Models and batches.

    Returns:
        Step: Function that prepares the step on a batch.

    Raises:
        UnavailableError: If the detectors have no RoI heads, or mmrazor
            cannot be imported.
    """
    _refuse_dense(workload)
    return workload.training_step(
        single_teacher_distill(workload.student(), workload.teacher()))


def _refuse_dense(workload: Workload) -> None:
    if workload.is_dense:
        raise UnavailableError('written for RoI heads only')


class NaiveDistiller(BaseModel):
    """Distiller that runs two complete, unchanged detectors.

    The teacher computes all its losses, with RPN, assignment and sampling,
    only to give its logits. The student's head runs a second time, on the
    RoIs that the teacher has sampled.

    Args:
        student (nn.Module): Student in training mode.
        teacher (nn.Module): Teacher in evaluation mode.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__(student.data_preprocessor)
        self.student = student
        self.teacher = teacher
        self.distill_loss = LogitKLDivLoss()
        self._features: Optional[tuple] = None
        student.neck.register_forward_hook(self._keep_features)

    def _keep_features(self, _, __, features: tuple) -> None:
        self._features = features

    def forward(self,
                inputs: Tensor,
                data_samples: SampleList,
                mode: str = 'loss') -> Dict[str, Tensor]:
        """Compute the student's own losses and the distillation loss."""
        losses = self.student.loss(inputs, data_samples)
        with torch.no_grad(), adapter_for(self.teacher,
                                          'teacher').observe() as observation:
            self.teacher.loss(inputs, data_samples)
        samples, = observation.groups
        student_logits = self.student.roi_head._bbox_forward(
            self._features, samples.location)['cls_score']
        self._features = None
        losses['loss_kd_cls'] = self.distill_loss(student_logits,
                                                  samples.logits)
        return losses


VARIANTS = {
    variant.__name__: variant
    for variant in (plain, teacher, teacher_as_ours, ours, naive, mmrazor)
}
