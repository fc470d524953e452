"""Makes a unit of the plan: a teacher and its students, from data to rows."""
from typing import Dict, List

import numpy as np
from scipy.special import softmax

from tcal_det.models.calibrators.fitting import fit_temperature
from ..rows import Row
from .data import NUM_CLASSES, Crops, make_crops, tempered
from .measures import student_figures, teacher_figures
from .networks import Networks
from .plan import (ARMS, HARD_ARM, TEACHER_SETTINGS, TEMPERATURES, Plan,
                   Teacher, Unit, oracle_arm, student_name, teacher_name)


def make_all_crops(plan: Plan) -> Dict[str, Crops]:
    """Crops of all splits.

    Args:
        plan (Plan): Names their numbers and their seed.

    Returns:
        dict[str, Crops]: 'seen' and 'unseen' for teachers, 'student', 'val'
        and 'test'.
    """
    seen = make_crops('student', plan.teacher_crops, plan.crops_seed)
    return dict(
        seen=seen,
        unseen=make_crops('other', plan.teacher_crops, plan.crops_seed),
        student=seen.first(plan.student_crops),
        val=make_crops('val', plan.val_crops, plan.crops_seed),
        test=make_crops('test', plan.test_crops, plan.crops_seed))


def make_unit(unit: Unit, plan: Plan, crops: Dict[str, Crops]) -> List[Row]:
    """Train and measure what belongs to a unit.

    Args:
        unit (Unit): The unit.
        plan (Plan): The plan it is from.
        crops (dict[str, Crops]): What :func:`make_all_crops` returned.

    Returns:
        list[dict]: A row a teacher and one a student.
    """
    student = crops['student']
    if unit.kind == 'oracle':
        temperatures = {
            oracle_arm(value): value
            for value in plan.oracle_temperatures
        }
        targets = {
            arm: tempered(student.posterior, value)
            for arm, value in temperatures.items()
        }
        return _student_rows(unit, targets, temperatures, plan, crops)
    if unit.kind == 'hard':
        targets = {HARD_ARM: smoothed(student.labels, 0.0)}
        return _student_rows(unit, targets, {HARD_ARM: None}, plan, crops)
    networks = train_teacher(unit.teacher, plan, crops)
    val_logits, = networks.logits(crops['val'].pixels)
    student_logits, = networks.logits(student.pixels)
    fitted = fit_temperature(val_logits, crops['val'].labels)
    temperatures = dict(TEMPERATURES, fitted=fitted)
    row = dict(
        kind='teacher',
        name=teacher_name(unit),
        teacher=unit.name,
        **{key: getattr(unit.teacher, key)
           for key in TEACHER_SETTINGS},
        fitted_temperature=fitted,
        figures={
            arm:
            teacher_figures(val_logits, crops['val'], student_logits, student,
                            temperatures[arm])
            for arm in ARMS
        })
    targets = {
        arm: softmax(student_logits / temperatures[arm], axis=1)
        for arm in ARMS
    }
    return [row] + _student_rows(unit, targets, temperatures, plan, crops)


def train_teacher(teacher: Teacher, plan: Plan,
                  crops: Dict[str, Crops]) -> Networks:
    """Train a teacher on noisy labels.

    Args:
        teacher (Teacher): Its settings.
        plan (Plan): Has the learning rate.
        crops (dict[str, Crops]): Has 'seen' and 'unseen'.

    Returns:
        Networks: One network.
    """
    teacher_crops = crops[teacher.data]
    targets = smoothed(teacher_crops.labels, teacher.label_smoothing)
    return Networks(teacher.width,
                    [teacher.seed]).train(teacher_crops.pixels, targets[None],
                                          teacher.epochs, plan.teacher_rate)


def smoothed(labels: np.ndarray, label_smoothing: float) -> np.ndarray:
    """Labels as distributions.

    Args:
        labels (ndarray): Shape (N,).
        label_smoothing (float): Share that is spread evenly over all
            classes, in [0, 1].

    Returns:
        ndarray: Rows that sum to 1, shape (N, C).
    """
    one_hot = np.eye(NUM_CLASSES)[labels]
    return (1 - label_smoothing) * one_hot + label_smoothing / NUM_CLASSES


def _student_rows(unit: Unit, targets: Dict[str, np.ndarray],
                  temperatures: Dict[str, float], plan: Plan,
                  crops: Dict[str, Crops]) -> List[Row]:
    """Train the students of all arms of a unit together."""
    seeds = plan.student_seeds
    runs = [(arm, seed) for arm in targets for seed in seeds]
    networks = Networks(plan.student_width, [seed for _, seed in runs])
    networks.train(crops['student'].pixels,
                   np.stack([targets[arm] for arm, _ in runs]),
                   plan.student_epochs, plan.student_rate)
    logits = {
        split: networks.logits(crops[split].pixels)
        for split in ('val', 'test')
    }
    return [
        dict(
            kind='student',
            name=student_name(unit, arm, seed),
            teacher=unit.name if unit.kind == 'teacher' else None,
            arm=arm,
            temperature=temperatures[arm],
            seed=seed,
            **{
                split: student_figures(logits[split][place], crops[split])
                for split in logits
            }) for place, (arm, seed) in enumerate(runs)
    ]
