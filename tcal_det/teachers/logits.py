"""A teacher's classification logits with the labels they should have had.

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
    """What a softmax teacher said about samples, and what they were.

    Attributes:
        logits (ndarray): Not calibrated, float32, shape (N, C).
        labels (ndarray): Assigned classes, C - 1 for background, int64,
            shape (N,).
        image_ids (ndarray): Position of the sample's image in the split,
            shape (N,).
        num_seen (int): Samples of which these N were drawn.
        num_images (int): Images of the split.
        sample_name (str): What a sample is, in the plural. Defaults to
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
        """What was drawn, in the plural."""
        return self.sample_name

    @property
    def is_foreground(self) -> np.ndarray:
        """Whether the sample was assigned to an object, shape (N,)."""
        return self.labels != self.logits.shape[1] - 1

    def describe(self) -> Dict[str, object]:
        """Plain numbers, for the JSON file."""
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
    """Run a teacher over images and keep a fair sample of what it said.

    For RoI heads protocol 'train' is the distribution that distillation
    sees: proposals of ``train_cfg.rpn_proposal``, assigned and sampled as in
    training, with the objects among them. Protocol 'test' takes all proposals
    of ``test_cfg.rpn``, assigned but not sampled. Dense heads classify all
    their priors in either. Of detectors with queries it is the last layer's
    predictions in either, right where COCO's evaluation calls them so.

    Args:
        detector (nn.Module): With a head that can be labelled; put in eval.
        dataloader (Iterable[dict]): Images with annotations in their own
            scale, see ``build_calibration_dataloader``.
        protocol (str): 'train' or 'test'. Defaults to 'train'.
        max_samples (int): So many RoIs, or pairs of each selection, are
            kept; of more, each has the same chance (reservoir sampling).
            Defaults to 500000.
        seed (int): Seed of the sampler and of that choice, in [0, 2**63).
            Defaults to 0.

    Returns:
        TeacherSamples | TeacherPairs: Of a softmax or a sigmoid head, on the
        CPU.

    Raises:
        InvalidTypeError: If the detector has no head that can be labelled,
            no RPN where it needs one, or no ``train_cfg``.
        InvalidValueError: If an argument is wrong, or the images have no
            annotated object or no sample.
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
    # mmdet's samplers draw from torch's global stream.
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
    """Draws samples of a softmax head.

    Args:
        adapter (HeadAdapter): Adapter of the teacher.
        max_samples (int): Samples to keep.
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
            # Neither right nor wrong: those in ignored regions.
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
