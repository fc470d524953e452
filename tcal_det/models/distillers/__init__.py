from .calibrated_teacher_distiller import CalibratedTeacherDistiller
from .frozen_teacher import FrozenTeacher

__all__ = ['CalibratedTeacherDistiller', 'FrozenTeacher']
