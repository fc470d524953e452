from .atomic_checkpoint_hook import AtomicCheckpointHook
from .loss_weight_schedule_hook import LossWeightScheduleHook
from .teacher_calibration_hook import TeacherCalibrationHook

__all__ = [
    'AtomicCheckpointHook', 'LossWeightScheduleHook', 'TeacherCalibrationHook'
]
