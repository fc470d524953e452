from .atomic_checkpoint_hook import AtomicCheckpointHook
from .loss_weight_schedule_hook import LossWeightScheduleHook
from .reliability_figure_hook import ReliabilityFigureHook
from .report_hook import ReportHook
from .teacher_calibration_hook import TeacherCalibrationHook

__all__ = [
    'AtomicCheckpointHook', 'LossWeightScheduleHook', 'ReliabilityFigureHook',
    'ReportHook', 'TeacherCalibrationHook'
]
