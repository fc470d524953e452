"""Data that student and teacher computed for one batch."""
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from mmdet.structures import SampleList
from torch import Tensor

from ..head_adapters import HeadAdapter, ModuleCall, Observation
from .distillation_group import DistillationGroup


@dataclass
class TrainingStep:
    """Data of the student.

    Attributes:
        student (HeadAdapter): Adapter of the student.
        images (Tensor): Images in the student's normalisation, shape
            (N, 3, H, W).
        data_samples (list[DetDataSample]): Data samples of the images, with
            annotations.
        losses (dict[str, Any]): The student's own losses by name.
        observation (Observation): Samples that its head classified.
        calls (dict[str, ModuleCall]): Recorded calls, with their graph, of
            those of its ``parts`` that the terms need.
    """
    student: HeadAdapter
    images: Tensor
    data_samples: SampleList
    losses: Dict[str, Any]
    observation: Observation
    calls: Dict[str, ModuleCall]

    @property
    def total_loss(self) -> Tensor:
        """Sum of the student's own losses, without distillation."""
        return self.student.detector.parse_losses(self.losses)[0]


@dataclass
class TeacherOutput:
    """Data of one teacher, or of the mixture of several teachers.

    Attributes:
        distill_groups (list[DistillationGroup]): Teacher logits for the
            student's samples; empty if no term needs them.
        teacher (FrozenTeacher, optional): The teacher. Defaults to None, for
            a mixture.
        images (Tensor, optional): Images in the teacher's normalisation,
            shape (N, 3, H, W). Defaults to None, for a mixture.
        calls (dict[str, ModuleCall]): Recorded calls of those of the
            teacher's ``parts`` that the terms need. Defaults to {}, for a
            mixture.
    """
    distill_groups: List[DistillationGroup]
    teacher: Optional[Any] = None
    images: Optional[Tensor] = None
    calls: Dict[str, ModuleCall] = field(default_factory=dict)

    @property
    def adapter(self) -> HeadAdapter:
        """Adapter of the teacher."""
        return self.teacher.adapter
