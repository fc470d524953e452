"""What is measured of a trained detector."""
from dataclasses import replace
from typing import Any, Dict, Tuple

import torch.nn as nn
from mmengine.config import Config

from tcal_det.evaluation.functional import (DetectionCalibrationReport,
                                            Detections, GroundTruth)
from tcal_det.recalibration import fit_recalibration
from tcal_det.teachers.detections import collect_detections
from tcal_det.teachers.fitting import fit_teacher
from tcal_det.teachers.logits import collect_teacher_samples
from tcal_det.teachers.softmax_measurement import measure as measure_head
from tcal_det.teachers.sources import (annotation_files,
                                       build_calibration_dataloader)
from .plan import Run, folder_of

# Name in the results file by key of the catalogue.
RAW = {
    'mAP': 'mAP',
    'AP50': 'AP50',
    'AP75': 'AP75',
    'd_ece': 'D-ECE',
    'd_ece_over': 'D-ECE over',
    'd_ece_under': 'D-ECE under',
    'laece_0': 'LaECE_0',
    'lrp_0': 'LRP_0',
}
Split = Tuple[GroundTruth, Detections]


def measure(detector: nn.Module, cfg: Config) -> Dict[str, Dict[str, float]]:
    """Detect on val and test, and measure both.

    Args:
        detector (nn.Module): In eval.
        cfg (Config): Its config, whose dataset names the classes.

    Returns:
        dict[str, dict[str, float]]: The figures of 'val' and 'test', see
        :func:`figures`.
    """
    classes = cfg.metainfo.classes
    splits = {}
    for split in ('val', 'test'):
        collected = collect_detections(
            detector, build_calibration_dataloader(cfg, split), len(classes),
            classes)
        splits[split] = collected.ground_truth, collected.detections
    return {split: figures(splits['val'], splits[split]) for split in splits}


def figures(val: Split, split: Split) -> Dict[str, float]:
    """Accuracy and calibration, with everything chosen on val.

    Args:
        val (Split): Ground truth and detections on which temperatures and
            thresholds are chosen.
        split (Split): Those that are measured.

    Returns:
        dict[str, float]: Fractions: 'mAP', 'AP50', 'AP75', 'D-ECE' with its
        parts 'D-ECE over' and 'D-ECE under', 'LaECE_0' and 'LRP_0' of all
        detections; 'D-ECE, T' and 'LaECE_0, T'
        after one temperature for all classes, fitted to precision and to
        precision times IoU; 'LaECE_0, thr' and 'LRP_0, thr' of the
        detections above each class's LRP-optimal threshold; and
        'temperature', that of D-ECE.
    """
    ground_truth, detections = split
    raw = DetectionCalibrationReport.from_detections(ground_truth,
                                                     detections).figures(RAW)
    found = {RAW[key]: float(value) for key, value in raw.items()}
    categories = [
        dict(id=category_id, name=name) for category_id, name in zip(
            ground_truth.category_ids.tolist(), ground_truth.category_names)
    ]
    for name, key, target in (('D-ECE', 'd_ece', 'precision'),
                              ('LaECE_0', 'laece_0', 'precision_x_iou')):
        fitted = fit_recalibration(
            *val, categories, method='temperature', target=target)
        rescaled = replace(
            detections, scores=fitted.score_map(detections.scores))
        report = DetectionCalibrationReport.from_detections(
            ground_truth, rescaled)
        found[f'{name}, T'] = float(report.figures([key])[key])
        if name == 'D-ECE':
            found['temperature'] = float(fitted.score_map.temperature)
    thresholds = fit_recalibration(
        *val, categories, method='temperature',
        score_thr='lrp_optimal').score_thresholds
    above = DetectionCalibrationReport.from_detections(
        ground_truth, detections,
        score_thr=thresholds).figures(['laece_0', 'lrp_0'])
    found['LaECE_0, thr'] = float(above['laece_0'])
    found['LRP_0, thr'] = float(above['lrp_0'])
    return found


def measure_teacher(detector: nn.Module, cfg: Config,
                    run: Run) -> Dict[str, Any]:
    """Calibration of a teacher's head, and the map that its students need.

    Args:
        detector (nn.Module): In eval.
        cfg (Config): Its config.
        run (Run): Its run.

    Returns:
        dict: 'calibration' with a table on 'val' and, for a softmax head on
        the digit scenes, on 'student', the scenes its students are trained
        on: 'ece', its parts 'over' and 'under', 'ace', 'nll'; and the
        'fitted' calibrator of val.
    """
    dataloader = build_calibration_dataloader(cfg, 'val')
    folder = f'{folder_of(run.name)}/calibration'
    fitted, _ = fit_teacher(
        detector,
        dataloader,
        folder,
        teacher=dict(config=run.config, checkpoint=run.name),
        data=dict(split='val', ann_files=annotation_files(cfg, 'val')))
    found = dict(fitted=str(fitted.calibrator))
    if run.data == 'digits':
        student = cfg.copy()
        student.train_dataloader.dataset.indices = 200
        loaders = dict(
            val=dataloader,
            student=build_calibration_dataloader(student, 'train'))
        for name, loader in loaders.items():
            samples = collect_teacher_samples(detector, loader)
            values = measure_head(samples.logits, samples.labels)
            found[name] = dict(
                ece=values.error.ece,
                over=values.error.over,
                under=values.error.under,
                ace=values.ace,
                nll=values.nll)
    return dict(calibration=found)
