"""What student and teacher did with one batch."""
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from mmdet.structures import SampleList
from torch import Tensor

from ..head_adapters import HeadAdapter, ModuleCall, Observation
from .lesson import Lesson


@dataclass
class TrainingStep:
    """What the student did.

    Attributes:
        student (HeadAdapter): Adapter of the student.
        images (Tensor): In the student's normalisation, shape (N, 3, H, W).
        data_samples (list[DetDataSample]): Their annotations.
        losses (dict[str, Any]): The student's own losses.
        observation (Observation): What its head classified.
        calls (dict[str, ModuleCall]): Runs of those of its ``parts`` that a
            term asks for, with their graph.
    """
    student: HeadAdapter
    images: Tensor
    data_samples: SampleList
    losses: Dict[str, Any]
    observation: Observation
    calls: Dict[str, ModuleCall]

    @property
    def total_loss(self) -> Tensor:
        """Sum of the student's own losses, which the runner would descend."""
        return self.student.detector.parse_losses(self.losses)[0]


@dataclass
class Taught:
    """What one teacher, or the mixture of several, said.

    Attributes:
        lessons (list[Lesson]): Its answers for the student's samples; none
            where no term asks for them.
        teacher (FrozenTeacher, optional): The teacher. Defaults to None, a
            mixture.
        images (Tensor, optional): In its normalisation. Defaults to None, of
            a mixture.
        calls (dict[str, ModuleCall]): Runs of those of its ``parts`` that a
            term asks for. Defaults to none, of a mixture.
    """
    lessons: List[Lesson]
    teacher: Optional[Any] = None
    images: Optional[Tensor] = None
    calls: Dict[str, ModuleCall] = field(default_factory=dict)

    @property
    def adapter(self) -> HeadAdapter:
        """Adapter of the teacher."""
        return self.teacher.adapter
