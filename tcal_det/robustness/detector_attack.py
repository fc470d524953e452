"""Batches of a dataloader, attacked by the detector's own losses."""
import copy
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List

import torch
import torch.nn as nn
from mmdet.structures import DetDataSample, SampleList
from mmengine.logging import MessageHub
from torch import Tensor

from tcal_det.errors import InvalidTypeError
from .attack import fgsm, pgd
from .corruption import identity_of
from .random_state import seed_of, seeded_torch

# An epoch, or an iteration, that no training reaches.
_AFTER_TRAINING = 10**9


class AttackedBatches:
    """A dataloader whose images are changed to raise the detector's loss.

    The loss is the sum that training descends, of all annotated objects of
    the batch. The detector is as in testing, with its norms and dropout; its
    samplers draw the same random numbers at every step. Pixels are changed
    before normalisation, and padding is not changed.

    Args:
        dataloader (Iterable[dict]): Of raw batches with annotations in the
            scale of the images.
        detector (nn.Module): In eval, with ``model.train_cfg``.
        attack (str): One of ``ATTACKS``.
        epsilon (float): Largest change of a pixel, in [0, 255].
        seed (int): Random seed.
    """

    def __init__(self, dataloader: Iterable[dict], detector: nn.Module,
                 attack: str, epsilon: float, seed: int) -> None:
        self._dataloader = dataloader
        self._detector = detector
        self._attack = attack
        self._epsilon = epsilon
        self._seed = seed

    @property
    def dataset(self) -> Any:
        """That of the dataloader."""
        return self._dataloader.dataset

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        for data in self._dataloader:
            yield dict(data, inputs=self._attacked(data))

    def _attacked(self, data: Dict[str, Any]) -> List[Tensor]:
        samples = data['data_samples']
        device = next(self._detector.parameters()).device
        images = _pixels(data, device)
        masks = [
            content_mask(image, sample)
            for image, sample in zip(images, samples)
        ]
        seeds = [
            seed_of(self._seed, self._attack, identity_of(sample.metainfo))
            for sample in samples
        ]
        with prepared_for_loss(self._detector):

            def loss_of(points):
                # The same draw at every step: the attack climbs one function.
                with seeded_torch(seeds[0], device):
                    return detector_loss(self._detector, points, samples)

            if self._attack == 'fgsm':
                return fgsm(loss_of, images, self._epsilon, masks)
            return pgd(loss_of, images, self._epsilon, masks, seeds)


def check_losses(detector: nn.Module, dataloader: Iterable[dict]) -> None:
    """Refuse a detector whose losses cannot be had, before the long work.

    Args:
        detector (nn.Module): In eval.
        dataloader (Iterable[dict]): Of raw batches, of which one is tried.

    Raises:
        InvalidTypeError: If its losses need something that is not there.
    """
    data = next(iter(dataloader))
    if any('border' in sample for sample in data['data_samples']):
        raise InvalidTypeError(
            'attacks need boxes in the pixels of the image, but this test '
            'pipeline centres the image (RandomCenterCropPad) and leaves its '
            'boxes where they are: leave the attacks out with --attacks none')
    device = next(detector.parameters()).device
    images = [one.clone().requires_grad_() for one in _pixels(data, device)]
    try:
        with prepared_for_loss(detector), torch.enable_grad():
            loss = detector_loss(detector, images, data['data_samples'])
            torch.autograd.grad(loss, images)
    except Exception as error:
        # Some need proposals, segmentation maps, or a key of the config.
        raise InvalidTypeError(
            'attacks follow the losses of training with boxes (and masks) as '
            'annotations, but those of this detector cannot be had so '
            f'({type(error).__name__}: {error}): is `model.train_cfg` in the '
            'config? Leave the attacks out with --attacks none') from None


def _pixels(data: Dict[str, Any], device: torch.device) -> List[Tensor]:
    return [image.to(device).float() for image in data['inputs']]


def detector_loss(detector: nn.Module, images: List[Tensor],
                  data_samples: SampleList) -> Tensor:
    """The loss that training descends.

    Args:
        detector (nn.Module): Inside :func:`prepared_for_loss`.
        images (list[Tensor]): Raw pixels, shape (3, H, W) each.
        data_samples (list[DetDataSample]): Their annotations; not changed.

    Returns:
        Tensor: A scalar, with a gradient to the images.
    """
    data = detector.data_preprocessor(
        dict(inputs=images, data_samples=copy.deepcopy(data_samples)), False)
    losses = detector.loss(data['inputs'], data['data_samples'])
    return detector.parse_losses(losses)[0]


@contextmanager
def prepared_for_loss(detector: nn.Module) -> Iterator[None]:
    """A detector in eval whose loss can be had, and whose weights cannot.

    Heads, and detectors with queries, return less in testing, or boxes of
    another scale. They are told that they are in training, by their own flag
    alone: norms and dropout have flags of their own. The first epochs, in
    which some assign or weigh otherwise, are over. Some losses keep buffers
    that every call moves; these are put back.

    Args:
        detector (nn.Module): In eval; as it was on leaving.
    """
    told = [
        module for module in detector.modules()
        if callable(getattr(module, 'loss', None))
        # They do as their detector does: TridentNet's blocks branch, and
        # DDQ-DETR's decoder takes queries beside its own.
        or hasattr(module, 'test_branch_idx') or module is getattr(
            detector, 'decoder', None)
    ]
    were_training = [module.training for module in told]
    hub = MessageHub.get_current_instance()
    progress = {key: hub.get_info(key, None) for key in ('epoch', 'iter')}
    learning = [one for one in detector.parameters() if one.requires_grad]
    buffers = [(one, one.clone()) for one in detector.buffers()]
    for module in told:
        module.training = True
    for key in progress:
        hub.update_info(key, _AFTER_TRAINING)
    for parameter in learning:
        parameter.requires_grad_(False)
    # Recomputed activations have no gradient to the images.
    recomputing = [
        one for one in detector.modules() if getattr(one, 'with_cp', False)
    ]
    for module in recomputing:
        module.with_cp = False
    try:
        yield
    finally:
        for module, was_training in zip(told, were_training):
            module.training = was_training
        for module in recomputing:
            module.with_cp = True
        for key, value in progress.items():
            hub.pop_info(key)
            if value is not None:
                hub.update_info(key, value)
        for parameter in learning:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for buffer, content in buffers:
                buffer.copy_(content)


def content_mask(image: Tensor, sample: DetDataSample) -> Tensor:
    """Where an image is, and not what its pipeline has padded.

    A pipeline's ``Pad`` adds rows below and columns on the right; the size
    before it is that of the file in the scale of the image.

    Args:
        image (Tensor): Shape (3, H, W).
        sample (DetDataSample): With ``ori_shape`` and ``scale_factor``;
            without them all is content.

    Returns:
        Tensor: Boolean, shape (1, H, W).
    """
    mask = torch.ones_like(image[:1], dtype=torch.bool)
    size, scale = sample.get('ori_shape'), sample.get('scale_factor')
    if size is not None and scale is not None:
        mask[:, round(size[0] * scale[1]):] = False
        mask[:, :, round(size[1] * scale[0]):] = False
    return mask
