"""Measurements of this repository; run from its root.

    python -m benchmarks.eval_calibration         evaluating results files
    python -m benchmarks.step_time                a step of distillation
    python -m benchmarks.class_probabilities      detection with probabilities
    python -m benchmarks.teacher_calibration_hook watching a training
    python -m benchmarks.study.run                the runs of docs/study.md

No part of the installed package. ``study_12-epochs`` has the results of the
frozen study, without code.
"""
import os.path as osp

REPOSITORY = osp.dirname(osp.dirname(osp.abspath(__file__)))
