"""A teacher's classification logits with the labels they should have had.

Shapes: R RoIs of a batch; N kept samples, each an RoI; C = K + 1 classes
with background last.
"""
from dataclasses import dataclass
from typing import Iterable, Optional

import numpy as np
import torch
import torch.nn as nn
from mmengine.utils import ProgressBar
from torch import Tensor

from tcal_det.arguments import check_count
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional.array_checks import check_choice
from tcal_det.models.head_adapters import HeadAdapter, adapter_for
from tcal_det.teacher_options import LARGEST_SEED, MAX_SAMPLES, PROTOCOLS


@dataclass(frozen=True, eq=False)
class TeacherSamples:
    """What the teacher said about RoIs, and what they were.

    Attributes:
        logits (ndarray): Not calibrated, float32, shape (N, C).
        labels (ndarray): Assigned classes, C - 1 for background, int64,
            shape (N,).
        image_ids (ndarray): Position of the RoI's image in the split, shape
            (N,).
        num_seen (int): RoIs of which these N were drawn.
        num_images (int): Images of the split.
    """
    logits: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray
    num_seen: int
    num_images: int

    @property
    def is_foreground(self) -> np.ndarray:
        """Whether the RoI was assigned to an object, shape (N,)."""
        return self.labels != self.logits.shape[1] - 1


def collect_teacher_samples(detector: nn.Module,
                            dataloader: Iterable[dict],
                            protocol: str = 'train',
                            max_samples: int = MAX_SAMPLES,
                            seed: int = 0) -> TeacherSamples:
    """Run a teacher over images and keep a fair sample of its RoIs.

    Protocol 'train' is the distribution that distillation sees: proposals
    of ``train_cfg.rpn_proposal``, assigned and sampled as in training, with
    the objects among them. Protocol 'test' takes all proposals of
    ``test_cfg.rpn``, assigned but not sampled.

    Args:
        detector (nn.Module): With a softmax RoI head; put in eval.
        dataloader (Iterable[dict]): Images with annotations in their own
            scale, see ``build_calibration_dataloader``.
        protocol (str): 'train' or 'test'. Defaults to 'train'.
        max_samples (int): So many RoIs are kept; of more, each has the same
            chance (reservoir sampling). Defaults to 500000.
        seed (int): Seed of the sampler and of that choice, in [0, 2**63).
            Defaults to 0.

    Returns:
        TeacherSamples: On the CPU.

    Raises:
        InvalidTypeError: If the detector has no such head, no RPN, or no
            ``train_cfg``.
        InvalidValueError: If an argument is wrong, or the images have no
            annotated object or no RoI.
    """
    check_choice('protocol', protocol, PROTOCOLS)
    check_count('seed', seed, lowest=0, highest=LARGEST_SEED)
    reservoir = _Reservoir(check_count('max_samples', max_samples), seed)
    adapter = adapter_for(detector, 'teacher')
    _check_adapter(adapter)
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
                    reservoir.add(
                        _to_numpy(group.logits.float()),
                        _to_numpy(group.labels),
                        num_images + _to_numpy(group.image_index))
            num_images += len(data_samples)
            progress.update(len(data_samples))
    print()
    samples = reservoir.samples(num_images)
    if not samples.is_foreground.any():
        raise InvalidValueError(
            'the images must have annotated objects, but none of '
            f'{samples.num_seen} RoIs in {num_images} images was assigned to '
            'one: choose a split with annotations (--split)')
    return samples


def _check_adapter(adapter: HeadAdapter) -> None:
    reason = adapter.reason_against_labelling()
    if reason is not None:
        raise InvalidTypeError(f'the teacher {adapter.name} {reason}')


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


class _Reservoir:
    """A uniform sample of a stream, in memory for no more than itself.

    Vitter's algorithm R: the n-th RoI (from 0) goes to a place drawn from
    [0, n], and is dropped if there is no such place.
    """

    def __init__(self, max_samples: int, seed: int) -> None:
        self.max_samples = max_samples
        self.rng = np.random.default_rng(seed)
        self.num_seen = 0
        self.logits: Optional[np.ndarray] = None
        self.labels = self._allocate(np.int64)
        self.image_ids = self._allocate(np.int64)

    def add(self, logits: np.ndarray, labels: np.ndarray,
            image_ids: np.ndarray) -> None:
        if self.logits is None:
            self.logits = self._allocate(np.float32, logits.shape[1])
        order = np.arange(self.num_seen, self.num_seen + len(logits))
        place = np.where(order < self.max_samples, order,
                         self.rng.integers(0, order + 1))
        kept = np.flatnonzero(place < self.max_samples)
        # Where two take one place, the later must stay: last in the stream.
        for stored, given in ((self.logits, logits), (self.labels, labels),
                              (self.image_ids, image_ids)):
            stored[place[kept]] = given[kept]
        self.num_seen += len(logits)

    def _allocate(self, dtype: type, *columns: int) -> np.ndarray:
        try:
            return np.empty((self.max_samples, *columns), dtype)
        except (MemoryError, ValueError):  # the latter beyond all addresses
            raise InvalidValueError(
                '`max_samples` must be a number of RoIs that memory can '
                f'hold, but got {self.max_samples}') from None

    def samples(self, num_images: int) -> TeacherSamples:
        if self.num_seen == 0:
            raise InvalidValueError(
                f'the split must have images with RoIs, but {num_images} '
                'images gave none: check `ann_file` and the RPN')
        filled = slice(min(self.num_seen, self.max_samples))
        return TeacherSamples(self.logits[filled], self.labels[filled],
                              self.image_ids[filled], self.num_seen,
                              num_images)
