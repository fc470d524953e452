from .calibrated_teacher_distiller import CalibratedTeacherDistiller
from .frozen_teacher import FrozenTeacher
from .speculative_samples import SpeculativeSamples

__all__ = ['CalibratedTeacherDistiller', 'FrozenTeacher', 'SpeculativeSamples']
