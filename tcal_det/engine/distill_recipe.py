"""Choose the calibrator and the loss for a student and a teacher."""
import os.path as osp
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.device import get_device
from torch.utils.data import DataLoader

from tcal_det.errors import InvalidTypeError, UserError
from tcal_det.models.distillers.sample_transport import RoIsAtBoxes
from tcal_det.teacher_options import CALIBRATORS_BY_ACTIVATION
from tcal_det.teachers.calibration import CALIBRATION_FILE
from tcal_det.teachers.fitting import fit_teacher
from tcal_det.teachers.image_folds import describe_fits
from tcal_det.teachers.sigmoid_calibration import focal_parameters
from tcal_det.teachers.sources import (annotation_files,
                                       build_calibration_dataloader,
                                       shares_annotations)
from .dataset_classes import dataset_names
from .distill_pair import DistillPair

# Kim et al., arXiv 2508.20224.
PAPER_TEMPERATURE = 1.5


@dataclass(frozen=True)
class ConfigChoice:
    """Part of a config with the reason for it.

    Attributes:
        cfg (dict, optional): Part of the config; None for no entry.
        reason (str): Reason for the choice, in one or two sentences.
    """
    cfg: Optional[Dict[str, Any]]
    reason: str


def choose_calibrator_for(pair: DistillPair) -> ConfigChoice:
    """Choose the calibrator of a teacher without fitting one.

    Args:
        pair (DistillPair): Teacher with its student.

    Returns:
        ConfigChoice: Temperature of the paper for a softmax head, no
        calibrator for a sigmoid head.
    """
    command = ('--calibrate' if _reason_against_fitting(pair) is None else
               'tools/calibrate_teacher.py')
    if pair.teacher.activation == 'softmax':
        return ConfigChoice(
            dict(type='TemperatureScaling', temperature=PAPER_TEMPERATURE),
            f'the temperature of the paper; {command} fits one to images')
    focal = ''
    with suppress(InvalidTypeError):
        parameters = focal_parameters(pair.teacher)
        focal = (
            f"dict(type='FocalPosterior', alpha={parameters['alpha']}, "
            f"gamma={parameters['gamma']}) calibrates it without images, ")
    return ConfigChoice(
        None, 'none, the uncalibrated scores: a temperature above 1 makes a '
        f'sigmoid head worse. {focal}{command} fits a PlattScaling to images')


def choose_losses(pair: DistillPair,
                  calibrator: Optional[Dict]) -> ConfigChoice:
    """Choose the losses for the head of the student.

    Args:
        pair (DistillPair): Student with its teacher.
        calibrator (dict, optional): Config of the teacher's calibrator.

    Returns:
        ConfigChoice: Value of the key ``distill_losses``.
    """
    if pair.student.activation == 'softmax':
        loss = dict(type='LogitKLDivLoss')
        reason = ("the paper's KL from the teacher's probabilities to the "
                  "student's, for the softmax of the student")
    elif calibrator is not None:
        loss = dict(type='LogitBinaryKLDivLoss')
        reason = (
            "KL from the teacher's probabilities to the student's, class "
            'by class, for the sigmoid of the student; its optimum is the '
            'output of the calibrated teacher')
    else:
        loss = dict(type='QualityFocalKDLoss')
        reason = ('for the sigmoid of the student; as published, with an '
                  'uncalibrated teacher')
    if pair.student.uses_queries and pair.transport is RoIsAtBoxes:
        loss['samples'] = 'foreground'
        reason += (". Only on queries that are matched with an object: a "
                   'teacher with RoIs detects the object also at the other '
                   'queries, which the student must classify as background')
    loss['loss_weight'] = 1.0
    return ConfigChoice(dict(loss_kd_cls=loss), reason)


def fit_calibrator(
        pair: DistillPair,
        out: str,
        teacher: Dict[str, str],
        keep_existing: bool = False) -> Tuple[Optional[ConfigChoice], str]:
    """Fit the teacher's calibrator to the val images of the student.

    The images pass through the student's test pipeline, so they have the size
    that the teacher sees in training, and then through the teacher's own
    normalisation.

    Args:
        pair (DistillPair): Student and teacher.
        out (str): Folder of ``teacher_calibration.json``.
        teacher (dict[str, str]): Config and checkpoint of the teacher, for
            that file.
        keep_existing (bool): Whether an existing file is used, for a training
            that is resumed. Defaults to False.

    Returns:
        tuple[ConfigChoice, str]: Calibrator, and its figures as text. If the
        calibrator cannot be fitted: None, and the reason.
    """
    path = osp.normpath(osp.join(out, CALIBRATION_FILE))
    choice = ConfigChoice(
        dict(
            type=CALIBRATORS_BY_ACTIVATION[pair.teacher.activation][0],
            load_from=path), 'fitted to the val images of the student')
    if keep_existing and osp.isfile(path):
        return choice, f'existing calibration: {path}'
    reason = _reason_against_fitting(pair)
    if reason is not None:
        return None, reason
    detector = pair.teacher.detector
    try:
        dataset_names(pair.student_cfg, 'val', pair.student.num_classes)
        dataloader = build_calibration_dataloader(pair.student_cfg, 'val')
        calibration, _ = fit_teacher(
            detector.to(get_device()).eval(),
            dataloader if pair.has_equal_classes else RelabelledImages(
                dataloader, pair.teacher_label),
            out,
            teacher=teacher,
            data=dict(
                split='val',
                ann_files=annotation_files(pair.student_cfg, 'val')))
    except UserError as error:
        return None, str(error)
    fits = describe_fits(calibration.calibrator, calibration.fold_calibrators)
    return choice, f'{calibration.table()}\n{fits}'


def _reason_against_fitting(pair: DistillPair) -> Optional[str]:
    if not pair.student_cfg.get('val_dataloader'):
        return 'the config of the student has no `val_dataloader`'
    for role, trained_by in (('student', pair.student_cfg),
                             ('teacher', pair.teacher_cfg)):
        if shares_annotations(pair.student_cfg, 'val', trained_by):
            return (f'the {role} is trained on the val split, and a '
                    'teacher looks better calibrated there than it is')
    reason = pair.teacher.reason_against_labelling()
    if reason is not None:
        return f'the teacher {pair.teacher.name} {reason}'
    if pair.teacher_label is None:
        return ('teacher and student have different classes: objects of a '
                'class that only one of them has would count as background')
    return None


class RelabelledImages:
    """Dataloader whose labels are converted to another order of classes.

    Args:
        dataloader (DataLoader): Dataloader of raw batches.
        labels (dict[int, int]): New label by old label, for all labels.
    """

    def __init__(self, dataloader: DataLoader, labels: Dict[int, int]) -> None:
        self.dataset = dataloader.dataset
        self._dataloader = dataloader
        self._labels: List[int] = [
            labels[label] for label in range(len(labels))
        ]

    def __iter__(self) -> Iterator[dict]:
        for data in self._dataloader:
            for sample in data['data_samples']:
                objects = sample.gt_instances
                table = objects.labels.new_tensor(self._labels)
                objects.labels = table[objects.labels]
            yield data
