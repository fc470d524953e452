"""Benchmarks of this repository; run them from its root.

    python -m benchmarks.eval_calibration         evaluation of results files
    python -m benchmarks.step_time                training step of distillation
    python -m benchmarks.class_probabilities      detection with probabilities
    python -m benchmarks.teacher_calibration_hook hook that watches a training
    python -m benchmarks.study.run                the study

The benchmarks are not part of the installed package. ``study_12-epochs`` holds
the results of the frozen study, without code.
"""
import os.path as osp

REPOSITORY = osp.dirname(osp.dirname(osp.abspath(__file__)))
