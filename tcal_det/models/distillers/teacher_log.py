"""Lines about a teacher in the log: its summary, and its first steps."""
import logging
from typing import Optional, Sequence

from mmengine.logging import print_log

from ..class_names import ClassNames
from ..detectors import detector_name
from ..head_adapters import HeadAdapter, Observation
from .distillation_group import DistillationGroup
from .teacher_check import STEPS

RULE = '-' * 60


def teacher_summary(teacher: HeadAdapter, class_names: Optional[ClassNames],
                    config: str, checkpoint: str, calibrator: str,
                    transport: str) -> str:
    """Describe a teacher for the log, in lines that are easy to find.

    Args:
        teacher (HeadAdapter): Adapter of the teacher.
        class_names (tuple[str], optional): Class names in its checkpoint.
        config (str): Description of its config.
        checkpoint (str): Path or URL of its weights.
        calibrator (str): Description of its calibrator.
        transport (str): Description of the way to its logits.

    Returns:
        str: A line for each of these between two rules.
    """
    detector = teacher.detector
    parameters = sum(weight.numel() for weight in detector.parameters())
    listed = 'names unknown: the checkpoint does not contain them'
    if class_names is not None:
        listed = ', '.join(
            class_names[:10]) + (', ...' if len(class_names) > 10 else '')
    return '\n'.join([
        '',
        RULE,
        f'Teacher: {detector_name(detector)}, {parameters:,} parameters',
        f'    config: {config}',
        f'    checkpoint: {checkpoint!r}',
        f'    {teacher.num_classes} classes: {listed}',
        f'    calibrator: {calibrator}',
        f'    transport: {transport}',
        RULE,
    ])


class CounterpartCount:
    """Log for how many samples of the first steps the teacher has logits.

    Args:
        sample_name (str): Plural name of the student's samples.
    """

    def __init__(self, sample_name: str) -> None:
        self.is_finished = False
        self._sample_name = sample_name
        self._step = self._num_matched = self._num_samples = 0

    def observe(self, distill_groups: Sequence[DistillationGroup],
                observation: Observation) -> None:
        """Count the samples of a training step, without waiting for a GPU.

        Args:
            distill_groups (sequence[DistillationGroup]): Groups of the step.
            observation (Observation): Samples that the student classified.
        """
        if self._step == 0 and all(distill_group.index is None
                                   for distill_group in distill_groups):
            self.is_finished = True
            return
        self._step += 1
        self._num_matched += sum(
            len(distill_group.logits) for distill_group in distill_groups)
        self._num_samples += sum(
            len(observation.groups[distill_group.group_index].logits)
            for distill_group in distill_groups)
        if self._step < STEPS:
            return
        self.is_finished = True
        share = 100 * self._num_matched / max(self._num_samples, 1)
        print_log(
            f'Teacher: answers for {self._num_matched} of the '
            f'{self._num_samples} {self._sample_name} of the first '
            f'{self._step} steps ({share:.1f} %)',
            'current',
            level=logging.INFO if self._num_matched else logging.WARNING)
