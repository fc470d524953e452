"""Block E of docs/evidence/preregistration.md as code."""
import itertools
from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

FIRST_TEACHER_SEED = 401
ORDER_SEED = 0
# Of a teacher. 'fitted' is the temperature of smallest NLL on val.
ARMS = ('t1', 'fitted', 't3')
TEMPERATURES = dict(t1=1.0, t3=3.0)
ORACLE_PREFIX = 'oracle-t'
HARD_ARM = 'hard'
# What a row says of a teacher.
TEACHER_SETTINGS = ('width', 'epochs', 'label_smoothing', 'data', 'seed')


@dataclass(frozen=True)
class Teacher:
    """One training of a teacher.

    Attributes:
        width (int): Units of each hidden layer.
        epochs (int): Passes over its crops.
        label_smoothing (float): Share of the label that is spread evenly
            over all classes.
        data (str): 'seen', with the student's crops among its own, or
            'unseen', of other digits.
        seed (int): Random seed.
    """
    width: int
    epochs: int
    label_smoothing: float
    data: str
    seed: int

    @property
    def name(self) -> str:
        """All but the seed, which follows from it."""
        return (f'w{self.width}-e{self.epochs}-ls{self.label_smoothing:g}-'
                f'{self.data}')


def _teachers() -> Tuple[Teacher, ...]:
    cells = itertools.product((64, 128), (5, 20, 80), (0.0, 0.1),
                              ('seen', 'unseen'))
    return tuple(
        Teacher(*cell, seed=FIRST_TEACHER_SEED + number)
        for number, cell in enumerate(cells))


@dataclass(frozen=True)
class Unit:
    """Students that are trained together, and stored together.

    Attributes:
        kind (str): 'teacher', 'oracle' or 'hard'.
        teacher (Teacher, optional): Teacher of the students, for kind
            'teacher'.
    """
    kind: str
    teacher: Optional[Teacher] = None

    @property
    def name(self) -> str:
        """Name of the teacher, or the kind."""
        return self.kind if self.teacher is None else self.teacher.name


@dataclass(frozen=True)
class Plan:
    """Sizes, seeds and teachers.

    Attributes:
        teachers (tuple[Teacher]): All teachers.
        student_seeds (tuple[int]): Random seeds of the students of each arm.
        oracle_temperatures (tuple[float]): Temperatures of p*.
        crops_seed (int): Random seed of the crops and of their noise.
        student_crops (int): The first of the crops of a seen teacher.
        teacher_crops (int): Crops that a teacher is trained on.
        val_crops (int): Crops for temperatures and figures of teachers.
        test_crops (int): Crops for figures of students.
        student_width (int): Units of each hidden layer of a student.
        student_epochs (int): Passes over the student's crops.
        student_rate (float): Learning rate of the students at the start.
        teacher_rate (float): Learning rate of the teachers at the start.
    """
    teachers: Tuple[Teacher, ...] = _teachers()
    student_seeds: Tuple[int, ...] = tuple(range(301, 311))
    oracle_temperatures: Tuple[float, ...] = (0.5, 1.0, 1.5, 3.0)
    crops_seed: int = 0
    student_crops: int = 2000
    teacher_crops: int = 4000
    val_crops: int = 4000
    test_crops: int = 6000
    student_width: int = 32
    student_epochs: int = 150
    student_rate: float = 4e-3
    teacher_rate: float = 2e-3

    @property
    def units(self) -> List[Unit]:
        """In a random order: a stop favours no kind of teacher."""
        units = [Unit('teacher', teacher) for teacher in self.teachers]
        units += [Unit('oracle'), Unit('hard')]
        order = np.random.default_rng(ORDER_SEED).permutation(len(units))
        return [units[place] for place in order]

    @property
    def num_students(self) -> int:
        """Students of all units."""
        arms = len(ARMS) * len(self.teachers) + len(
            self.oracle_temperatures) + 1
        return arms * len(self.student_seeds)


PLAN = Plan()


def oracle_arm(temperature: float) -> str:
    """Name of the arm that is taught p* at a temperature."""
    return f'{ORACLE_PREFIX}{temperature:g}'


def teacher_name(unit: Unit) -> str:
    """Name of a teacher's row."""
    return f'classifiers/{unit.name}/teacher'


def student_name(unit: Unit, arm: str, seed: int) -> str:
    """Name of a student's row."""
    return f'classifiers/{unit.name}/{arm}/seed{seed}'


def row_names(unit: Unit, plan: Plan) -> List[str]:
    """Names of the rows that a unit is to have.

    Args:
        unit (Unit): The unit.
        plan (Plan): The plan it is from.

    Returns:
        list[str]: One a teacher, one a student.
    """
    names = [teacher_name(unit)] if unit.kind == 'teacher' else []
    arms = dict(
        teacher=ARMS,
        oracle=map(oracle_arm, plan.oracle_temperatures),
        hard=(HARD_ARM, ))[unit.kind]
    return names + [
        student_name(unit, arm, seed) for arm in arms
        for seed in plan.student_seeds
    ]
