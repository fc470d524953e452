"""Collect a teacher's classification logits and the assigned labels.

Shapes: N kept samples, each a RoI, a prior or a query; C = K + 1 classes
with background last.
"""
from dataclasses import dataclass
from typing import Dict, Iterable, Union

import numpy as np
import torch
import torch.nn as nn
from mmengine.utils import ProgressBar

from tcal_det.checks import check_choice, check_count
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.head_adapters import (ClassificationSamples, HeadAdapter,
                                           adapter_for)
from tcal_det.teacher_options import LARGEST_SEED, MAX_SAMPLES, PROTOCOLS
from .pairs import PairCollector, TeacherPairs
from .reservoir import Reservoir


@dataclass(frozen=True, eq=False)
class TeacherSamples:
    """Logits of a softmax teacher with the assigned labels.

    Attributes:
        logits (ndarray): Uncalibrated logits, float32, shape (N, C).
        labels (ndarray): Assigned classes, C - 1 for background, int64,
            shape (N,).
        image_ids (ndarray): Position of the sample's image in the split,
            shape (N,).
        num_seen (int): Number of samples of which these N were drawn.
        num_images (int): Number of images of the split.
        sample_name (str): Name of the samples, in the plural. Defaults to
            'RoIs'.
    """
    logits: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray
    num_seen: int
    num_images: int
    sample_name: str = 'RoIs'

    activation = 'softmax'

    @property
    def unit(self) -> str:
        """Name of the drawn samples, in the plural."""
        return self.sample_name

    @property
    def is_foreground(self) -> np.ndarray:
        """Whether each sample was assigned to an object, shape (N,)."""
        return self.labels != self.logits.shape[1] - 1

    def describe(self) -> Dict[str, object]:
        """Describe the samples in plain numbers for the JSON file."""
        return dict(
            num_seen=self.num_seen,
            num_used=len(self.labels),
            num_assigned_foreground=int(self.is_foreground.sum()))


TeacherScores = Union[TeacherSamples, TeacherPairs]


def collect_teacher_samples(detector: nn.Module,
                            dataloader: Iterable[dict],
                            protocol: str = 'train',
                            max_samples: int = MAX_SAMPLES,
                            seed: int = 0) -> TeacherScores:
    """Run a teacher on images and keep a uniform sample of its logits.

    For RoI heads, protocol 'train' is the distribution that distillation
    uses: proposals of ``train_cfg.rpn_proposal`` and the annotated boxes,
    assigned and sampled as in training. Protocol 'test' takes all proposals
    of ``test_cfg.rpn``, assigned but not sampled. For dense heads both
    protocols take all priors. For detectors with queries both protocols take
    the predictions of the last layer, which are matched with the annotated
    objects as in COCO's evaluation.

    Args:
        detector (nn.Module): Detector with a supported head; it is set to
            evaluation mode.
        dataloader (Iterable[dict]): Dataloader whose annotations have the
            scale of their images, see ``build_calibration_dataloader``.
        protocol (str): Sampling protocol, 'train' or 'test'. Defaults to
            'train'.
        max_samples (int): Maximum number of samples, or of pairs of each
            selection; larger streams are sampled uniformly (reservoir
            sampling). Defaults to 500000.
        seed (int): Random seed of the sampler and the reservoir, in
            [0, 2**63). Defaults to 0.

    Returns:
        TeacherSamples or TeacherPairs: Samples of a softmax head, or pairs
        of a sigmoid head, on the CPU.

    Raises:
        InvalidTypeError: If the head of the detector is not supported, or if
            the detector lacks a required RPN or ``train_cfg``.
        InvalidValueError: If an argument is not allowed, or if the images
            have no annotated object or no sample.
    """
    check_choice('protocol', protocol, PROTOCOLS)
    check_count('seed', seed, lowest=0, highest=LARGEST_SEED)
    check_count('max_samples', max_samples)
    adapter = adapter_for(detector, 'teacher')
    _check_adapter(adapter)
    make_collector = (
        PairCollector if adapter.activation == 'sigmoid' else _SampleCollector)
    collector = make_collector(adapter, max_samples, seed)
    detector.eval()
    num_images = 0
    progress = ProgressBar(len(dataloader.dataset))
    # mmdet's samplers draw from torch's global random generator.
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for data in dataloader:
            data = detector.data_preprocessor(data, False)
            data_samples = data['data_samples']
            for group in adapter.label(data['inputs'], data_samples, protocol):
                if group.labels is not None:
                    collector.add(group, num_images)
            num_images += len(data_samples)
            progress.update(len(data_samples))
    print()
    return collector.result(num_images)


def _check_adapter(adapter: HeadAdapter) -> None:
    reason = adapter.reason_against_labelling()
    if reason is not None:
        raise InvalidTypeError(f'the teacher {adapter.name} {reason}')


class _SampleCollector:
    """Collector that draws samples of a softmax head.

    Args:
        adapter (HeadAdapter): Adapter of the teacher.
        max_samples (int): Maximum number of samples.
        seed (int): Random seed of the draws.
    """

    def __init__(self, adapter: HeadAdapter, max_samples: int,
                 seed: int) -> None:
        self._sample_name = adapter.sample_name
        self._reservoir = Reservoir(max_samples, seed, adapter.sample_name)

    def add(self, group: ClassificationSamples, first_image: int) -> None:
        columns = dict(
            logits=group.logits.float().cpu().numpy(),
            labels=group.labels.cpu().numpy(),
            image_ids=first_image + group.image_index.cpu().numpy())
        if group.weight is not None:
            # Samples in ignored regions are neither correct nor wrong.
            kept = (group.weight > 0).cpu().numpy()
            columns = {name: values[kept] for name, values in columns.items()}
        self._reservoir.add(
            len(columns['labels']), lambda chosen: {
                name: values[chosen]
                for name, values in columns.items()
            })

    def result(self, num_images: int) -> TeacherSamples:
        num_seen = self._reservoir.num_seen
        if num_seen == 0:
            raise InvalidValueError(
                f'the split must have images with {self._sample_name}, but '
                f'{num_images} images gave none: check `ann_file` and the RPN')
        samples = TeacherSamples(
            **self._reservoir.columns(),
            num_seen=num_seen,
            num_images=num_images,
            sample_name=self._sample_name)
        if not samples.is_foreground.any():
            raise InvalidValueError(
                'the images must have annotated objects, but none of '
                f'{num_seen} {self._sample_name} in {num_images} images was '
                'assigned to one: choose a split with annotations (--split)')
        return samples
