"""What the study measures besides training: teachers and gradients."""
import os.path as osp
from typing import Any, Dict, Iterable, List, Sequence

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from tcal_det.models.calibrators import TemperatureScaling
from tcal_det.models.distillers.detector_files import load_whole_checkpoint
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS
from tcal_det.teachers.calibration import measure
from tcal_det.teachers.logits import collect_teacher_samples
from tcal_det.teachers.ranking import measure_mean_ap
from tcal_det.teachers.sources import (build_calibration_dataloader,
                                       build_teacher, load_teacher_config)

NUM_GRADIENT_BATCHES = 25


def measure_teacher(name: str, config: str, checkpoint: str,
                    temperatures: Iterable[float]) -> List[Dict[str, Any]]:
    """Calibration of a teacher's head on the val scenes, and of its copies.

    Args:
        name (str): Of the teacher.
        config (str): Its config.
        checkpoint (str): Its weights.
        temperatures (Iterable[float]): One row each, and one for the
            temperature that is fitted.

    Returns:
        list[dict]: ECE, its parts, ACE, NLL and Brier at each temperature.
    """
    cfg, checkpoint = load_teacher_config(config, checkpoint)
    dataloader = build_calibration_dataloader(cfg, 'val')
    detector = build_teacher(cfg, checkpoint)
    samples = collect_teacher_samples(detector, dataloader)
    mean_ap = measure_mean_ap(detector, dataloader)
    # Rounded, for it stands in configs and names runs.
    fitted = round(
        TemperatureScaling().fit(samples.logits, samples.labels).temperature,
        3)
    rows = []
    for temperature in sorted({1.0, fitted, *temperatures}):
        figures = measure(samples.logits / temperature, samples.labels)
        rows.append(
            dict(
                name=name,
                epoch=int(name.rpartition('_e')[2]),
                temperature=temperature,
                val_mAP=mean_ap,
                ece=figures.error.ece,
                over=figures.error.over,
                under=figures.error.under,
                ace=figures.ace,
                nll=figures.nll,
                brier=figures.brier,
                fitted_temperature=fitted,
                num_samples=len(samples.labels)))
    return rows


def measure_gradients(runs: Sequence[Any], student_checkpoint: str,
                      folder: str) -> List[Dict[str, Any]]:
    """How hard each loss pulls on the logits of one and the same student.

    Args:
        runs (Sequence[PlannedRun]): One of each method, made already.
        student_checkpoint (str): Of a plain student.
        folder (str): Of all runs, with their configs.

    Returns:
        list[dict]: Root mean square over logits of the derivative of the
        batch's loss times the number of its RoIs, at ``loss_weight`` 1.
    """
    rows = []
    for run in runs:
        cfg = Config.fromfile(osp.join(folder, run.name, 'config.py'))
        init_default_scope('mmdet')
        cfg.train_dataloader.sampler.seed = 0
        torch.manual_seed(0)
        student = MODELS.build(cfg.model)
        student.teacher.build(student)
        load_whole_checkpoint(student, student_checkpoint)
        student.eval()
        squares, count = 0.0, 0
        for index, data in enumerate(
                Runner.build_dataloader(cfg.train_dataloader)):
            if index == NUM_GRADIENT_BATCHES:
                break
            data = student.data_preprocessor(data, True)
            with adapter_for(student, 'student').observe() as observation:
                losses = student.loss(data['inputs'], data['data_samples'])
            gradient, = torch.autograd.grad(losses['loss_kd_cls'],
                                            observation.groups[0].logits)
            gradient *= len(gradient) / run.loss_weight
            squares += float(gradient.double().square().sum())
            count += gradient.numel()
        rows.append(
            dict(
                method=run.method,
                temperature=run.temperature,
                fitted=run.fitted,
                rms_gradient=(squares / count)**0.5))
    return rows
