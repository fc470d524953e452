"""Attacks on the images of a dataloader with the losses of the detector."""
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

# Number of an epoch, and of an iteration, that no training reaches.
_AFTER_TRAINING = 10**9


class AttackedBatches:
    """A dataloader whose images are changed to increase the detector's loss.

    The loss is the sum that training minimises, over all annotated objects of
    the batch. Normalisation layers and dropout of the detector are in eval
    mode; its samplers draw the same random numbers at every step. Pixels are
    changed before normalisation, and padding is not changed.

    Args:
        dataloader (Iterable[dict]): Dataloader of raw batches, with
            annotations in the scale of the images.
        detector (nn.Module): Detector in eval mode, built with
            ``model.train_cfg``.
        attack (str): Name of the attack, one of ``ATTACKS``.
        epsilon (float): Largest change of a pixel, in [0, 255].
        seed (int): Random seed of the attack.
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
        """Data set of the dataloader."""
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
                # The same random numbers at every step, so that the attack
                # maximises one fixed function.
                with seeded_torch(seeds[0], device):
                    return detector_loss(self._detector, points, samples)

            if self._attack == 'fgsm':
                return fgsm(loss_of, images, self._epsilon, masks)
            return pgd(loss_of, images, self._epsilon, masks, seeds)


def check_losses(detector: nn.Module, dataloader: Iterable[dict]) -> None:
    """Check that the losses of a detector can be computed for an attack.

    Args:
        detector (nn.Module): Detector in eval mode.
        dataloader (Iterable[dict]): Dataloader of raw batches. The check uses
            the first batch.

    Raises:
        InvalidTypeError: If the losses need something that is not available,
            or the pipeline moves the image without its boxes.
    """
    data = next(iter(dataloader))
    if any('border' in sample for sample in data['data_samples']):
        raise InvalidTypeError(
            'attacks need boxes in the pixels of the image, but this test '
            'pipeline centres the image (RandomCenterCropPad) and does not '
            'move its boxes: leave the attacks out with --attacks none')
    device = next(detector.parameters()).device
    images = [
        image.clone().requires_grad_() for image in _pixels(data, device)
    ]
    try:
        with prepared_for_loss(detector), torch.enable_grad():
            loss = detector_loss(detector, images, data['data_samples'])
            torch.autograd.grad(loss, images)
    except Exception as error:
        # Some losses need proposals, segmentation maps, or a config key.
        raise InvalidTypeError(
            'attacks need training losses that can be computed from '
            'annotated boxes (and masks), but this fails for the detector '
            f'({type(error).__name__}: {error}): check that the config has '
            '`model.train_cfg`, or leave the attacks out with --attacks none'
        ) from None


def _pixels(data: Dict[str, Any], device: torch.device) -> List[Tensor]:
    return [image.to(device).float() for image in data['inputs']]


def detector_loss(detector: nn.Module, images: List[Tensor],
                  data_samples: SampleList) -> Tensor:
    """Compute the loss that training minimises.

    Args:
        detector (nn.Module): Detector inside :func:`prepared_for_loss`.
        images (list[Tensor]): Images with raw pixels, shape (3, H, W) each.
        data_samples (list[DetDataSample]): Annotations of the images; not
            changed.

    Returns:
        Tensor: Scalar loss with a gradient to the images.
    """
    data = detector.data_preprocessor(
        dict(inputs=images, data_samples=copy.deepcopy(data_samples)), False)
    losses = detector.loss(data['inputs'], data['data_samples'])
    return detector.parse_losses(losses)[0]


@contextmanager
def prepared_for_loss(detector: nn.Module) -> Iterator[None]:
    """Let a detector in eval mode compute its loss, with frozen weights.

    In eval mode, heads and detectors with queries return less, or boxes of
    another scale. So their own flag ``training`` is set; normalisation layers
    and dropout have their own flags and stay in eval mode. The numbers of
    epoch and iteration are set beyond the first epochs, in which some
    detectors assign or weight samples differently. Some losses change buffers
    in every call. The former state is restored on exit.

    Args:
        detector (nn.Module): Detector in eval mode.
    """
    loss_modules = [
        module for module in detector.modules()
        if callable(getattr(module, 'loss', None))
        # Modules without a loss that must match the mode of their detector:
        # TridentNet's blocks have several branches in training, and
        # DDQ-DETR's decoder gets additional queries.
        or hasattr(module, 'test_branch_idx') or module is getattr(
            detector, 'decoder', None)
    ]
    training_flags = [module.training for module in loss_modules]
    hub = MessageHub.get_current_instance()
    progress = {key: hub.get_info(key, None) for key in ('epoch', 'iter')}
    trainable = [
        parameter for parameter in detector.parameters()
        if parameter.requires_grad
    ]
    buffers = [(buffer, buffer.clone()) for buffer in detector.buffers()]
    for module in loss_modules:
        module.training = True
    for key in progress:
        hub.update_info(key, _AFTER_TRAINING)
    for parameter in trainable:
        parameter.requires_grad_(False)
    # With activation checkpointing there is no gradient to the images.
    checkpointed = [
        module for module in detector.modules()
        if getattr(module, 'with_cp', False)
    ]
    for module in checkpointed:
        module.with_cp = False
    try:
        yield
    finally:
        for module, was_training in zip(loss_modules, training_flags):
            module.training = was_training
        for module in checkpointed:
            module.with_cp = True
        for key, value in progress.items():
            hub.pop_info(key)
            if value is not None:
                hub.update_info(key, value)
        for parameter in trainable:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for buffer, content in buffers:
                buffer.copy_(content)


def content_mask(image: Tensor, sample: DetDataSample) -> Tensor:
    """Mask of the pixels that are not padding of the pipeline.

    The transform ``Pad`` adds rows at the bottom and columns on the right. The
    size before padding is the size of the file times the scale factor.

    Args:
        image (Tensor): Image, shape (3, H, W).
        sample (DetDataSample): Data sample of the image. Without
            ``ori_shape`` and ``scale_factor`` there is no padding.

    Returns:
        Tensor: Mask, boolean, shape (1, H, W).
    """
    mask = torch.ones_like(image[:1], dtype=torch.bool)
    size, scale = sample.get('ori_shape'), sample.get('scale_factor')
    if size is not None and scale is not None:
        mask[:, round(size[0] * scale[1]):] = False
        mask[:, :, round(size[1] * scale[0]):] = False
    return mask
