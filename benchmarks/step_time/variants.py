"""The training steps that are compared, each from equal weights."""
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
    """The student alone, not distilled."""
    return workload.training_step(workload.student())


def ours(workload: Workload) -> Step:
    """CalibratedTeacherDistiller."""
    return workload.training_step(workload.distiller())


def teacher(workload: Workload) -> Step:
    """The teacher's forward that a distillation step cannot do without.

    Backbone, neck and head on the student's samples, without gradient, of
    the detector as its config builds it.
    """
    return _classification(workload, workload.teacher())


def teacher_as_ours(workload: Workload) -> Step:
    """The same of the detector that FrozenTeacher made of it."""
    return _classification(workload, workload.distiller().teacher.detector)


def _classification(workload: Workload, detector: nn.Module) -> Step:
    student = workload.student()
    adapter = adapter_for(detector, 'teacher')

    def prepare(seed: int) -> Callable[[], List[Tensor]]:
        images, groups = workload.samples_of(student, seed)

        def forward() -> List[Tensor]:
            with torch.no_grad(), workload.autocast():
                return adapter.answer(adapter.look(images, []), groups)

        return forward

    return prepare


def naive(workload: Workload) -> Step:
    """What distillation code does that leaves both detectors as they are.

    Raises:
        UnavailableError: If the detectors have no RoI heads.
    """
    _refuse_dense(workload)
    return workload.training_step(
        NaiveDistiller(workload.student(), workload.teacher()))


def mmrazor(workload: Workload) -> Step:
    """SingleTeacherDistill of mmrazor.

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
    """Two whole detectors side by side.

    The teacher computes all its losses, with RPN, assignment and sampling,
    to get logits; the student's head runs a second time, on the RoIs that
    the teacher sampled.

    Args:
        student (nn.Module): In training.
        teacher (nn.Module): In eval.
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
        """The student's own losses, and one of distillation."""
        losses = self.student.loss(inputs, data_samples)
        with torch.no_grad(), adapter_for(self.teacher,
                                          'teacher').observe() as observation:
            self.teacher.loss(inputs, data_samples)
        samples, = observation.groups
        student_logits = self.student.roi_head._bbox_forward(
            self._features, samples.where)['cls_score']
        self._features = None
        losses['loss_kd_cls'] = self.distill_loss(student_logits,
                                                  samples.logits)
        return losses


VARIANTS = {
    variant.__name__: variant
    for variant in (plain, teacher, teacher_as_ours, ours, naive, mmrazor)
}
