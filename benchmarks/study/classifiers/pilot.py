"""Have the students converged? Asked of seeds that the plan does not use.

    python -m benchmarks.study.classifiers.pilot

Students of two teachers, of p* and of hard labels are trained for half the
planned epochs, for as many, and for twice as many, and measured on val.
"""
from dataclasses import replace
from typing import Dict

import numpy as np
import torch
from scipy.special import entr, log_softmax, softmax

from tcal_det.commands import run_command
from tcal_det.tables import markdown_table
from .data import Crops, tempered
from .measures import student_figures
from .networks import Networks
from .plan import PLAN, Teacher
from .units import make_all_crops, smoothed, train_teacher

FIRST_SEED = 9000
STUDENT_SEEDS = (9301, 9302, 9303)
PILOT = replace(PLAN, crops_seed=FIRST_SEED, test_crops=1)
TEACHERS = (Teacher(128, 80, 0.0, 'seen',
                    9401), Teacher(128, 20, 0.0, 'unseen', 9402))
LENGTHS = (0.5, 1, 2)


def targets_of(crops: Dict[str, Crops]) -> Dict[str, np.ndarray]:
    """What the students of each arm are taught, shape (N, C) each."""
    student = crops['student']
    found = {}
    for teacher in TEACHERS:
        logits, = train_teacher(teacher, PILOT, crops).logits(student.pixels)
        for temperature in (1, 3):
            found[f'{teacher.name}, T = {temperature}'] = softmax(
                logits / temperature, axis=1)
    for temperature in (1, 3):
        found[f'p*, T = {temperature}'] = tempered(student.posterior,
                                                   temperature)
    found['hard labels'] = smoothed(student.labels, 0.0)
    return found


def main():
    torch.set_num_threads(1)
    crops = make_all_crops(PILOT)
    targets = targets_of(crops)
    runs = [(arm, seed) for arm in targets for seed in STUDENT_SEEDS]
    target_probs = np.stack([targets[arm] for arm, _ in runs])
    table = [['taught'] + list(targets)]
    for length in LENGTHS:
        epochs = int(length * PILOT.student_epochs)
        students = Networks(PILOT.student_width, [seed for _, seed in runs])
        students.train(crops['student'].pixels, target_probs, epochs,
                       PILOT.student_rate)
        fitted = students.logits(crops['student'].pixels)
        # KL(target || student): 0 where nothing is left to learn.
        left = -(target_probs * log_softmax(fitted, axis=2)).sum(axis=2).mean(
            axis=1) - entr(target_probs).sum(axis=2).mean(axis=1)
        accuracy = [
            student_figures(logits, crops['val'])['accuracy']
            for logits in students.logits(crops['val'].pixels)
        ]
        shape = (len(targets), len(STUDENT_SEEDS))
        table.append([f'{epochs} epochs'] + [
            f'{100 * points:.1f} ({nats:.2f})' for points, nats in zip(
                np.reshape(accuracy, shape).mean(axis=1),
                np.reshape(left, shape).mean(axis=1))
        ])
        print(f'{epochs} epochs are done', flush=True)
    print('\nAccuracy on val x 100 (KL left on the own crops, nats), '
          f'{len(STUDENT_SEEDS)} seeds\n')
    print(markdown_table([list(column) for column in zip(*table)]))


if __name__ == '__main__':
    run_command(main)
