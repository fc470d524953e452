"""The RPN of a two-stage detector, read as a dense head with one class."""
from typing import List, Optional, Sequence

import torch.nn as nn
from mmdet.models.dense_heads import RPNHead
from torch import Tensor

from .classification_samples import ClassificationSamples
from .dense_head_adapter import DenseHeadAdapter
from .dense_head_specs import DenseHeadSpec
from .head_adapter import HeadAdapter


class RPNAdapter(DenseHeadAdapter):
    """Adapter of an RPN: all anchors, with the single class 'object' (K = 1).

    It is not one of the ``FAMILIES``, because the classes of a two-stage
    detector are those of its RoI head.
    """

    sample_name = 'anchors'
    num_classes_key = 'rpn_head.num_classes'

    @property
    def _head(self) -> nn.Module:
        return self.detector.rpn_head

    @staticmethod
    def _head_spec(head: nn.Module) -> DenseHeadSpec:
        # The table of readings refuses an RPN as a detector's own head.
        return DenseHeadSpec()

    @classmethod
    def matches(cls, detector: nn.Module) -> bool:
        return getattr(detector, 'rpn_head', None) is not None

    @classmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        if not cls.matches(detector):
            return 'has no RPN'
        head = detector.rpn_head
        if not isinstance(head, RPNHead):
            return (f'has the `rpn_head` {type(head).__name__}, which is not '
                    'an RPNHead')
        if not head.use_sigmoid_cls:
            return 'has an RPNHead with softmax instead of sigmoid'
        if getattr(detector, 'num_branch', 1) > 1:
            return 'repeats the batch for the branches of a TridentNet'
        return None

    def reason_against_student(self, student: HeadAdapter) -> Optional[str]:
        strides, student_strides = self._grid.strides, student._grid.strides
        if strides != student_strides:
            return (f'must have an RPN on maps of the same strides, but has '
                    f'{strides} and the student {student_strides}: choose a '
                    'teacher with the strides of the student')
        return super().reason_against_student(student)

    def classify_anchors(
            self, maps: Sequence[Tensor],
            groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        """Compute the objectness of the anchors of a student's RPN.

        Args:
            maps (sequence[Tensor]): Output of this detector's neck, one map
                per level.
            groups (sequence[ClassificationSamples]): Anchors of each level.

        Returns:
            list[Tensor]: Objectness logits for each level, shape (N * P, 1).
        """
        return self.classify_groups(self.prepare_maps(maps), groups)
