"""The teacher: found, checked, loaded, calibrated, and never trained."""
import copy
from collections.abc import Mapping
from typing import Callable, Optional, Sequence, Union

import torch
import torch.nn as nn
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tcal_det.errors import InvalidTypeError, InvalidValueError
from ..calibrators import Calibrator
from ..class_names import checkpoint_class_names
from ..configured_part import build_configured_part
from ..detectors import detector_name
from .detector_files import (build_detector, describe_config, find_detector,
                             load_whole_checkpoint)
from .image_normalization import ImageRenormalization
from .roi_head_adapter import SoftmaxRoIHeadAdapter
from .teacher_check import TeacherCheck

RULE = '-' * 60


class FrozenTeacher:
    """A detector in eval, without gradient, outside the module tree.

    Deliberately no ``nn.Module``: as a plain attribute of the student it has
    no parameters, no state, no DDP buckets, no optimizer groups and no EMA
    copy. It is built by :meth:`build`, when training starts.

    Args:
        config (str | Config | dict): 'mmdet::...' name, path, or a config
            with the key ``model``.
        checkpoint (str): 'auto' for the zoo weights of an 'mmdet::' config,
            a path, or a URL.
        calibrator (dict, optional): Calibrates the logits. Defaults to None,
            the logits as they are.

    Raises:
        InvalidTypeError, InvalidValueError: If an argument is not of these
            kinds, or the calibrator refuses its own.
    """

    def __init__(self,
                 config: Union[str, Config, dict],
                 checkpoint: str,
                 calibrator: Optional[dict] = None) -> None:
        if not isinstance(config, (str, Config, Mapping)):
            raise InvalidTypeError(
                "`teacher.config` must be an 'mmdet::' name, a path, a Config "
                f'or a dict, but got {type(config).__name__}')
        if not isinstance(checkpoint, str) or not checkpoint:
            raise InvalidTypeError(
                "`teacher.checkpoint` must be 'auto', a path or a URL, but "
                f'got {checkpoint!r}')
        self.config = config
        self.checkpoint = checkpoint
        self.calibrator_cfg = calibrator
        self.calibrator: Optional[nn.Module] = None
        if calibrator is not None and not (isinstance(calibrator, Mapping)
                                           and 'load_from' in calibrator):
            # Its parameters are here to be checked at once; a file is left
            # alone until training starts, for testing needs none.
            self.calibrator = self._build_calibrator()
        self.detector: Optional[nn.Module] = None
        self._renormalize: Optional[ImageRenormalization] = None
        self._check: Optional[TeacherCheck] = None

    def __reduce__(self) -> tuple:
        # An EMA copy or a pickle of the student must not carry the teacher;
        # should the copy ever train, it builds its own.
        return FrozenTeacher, (self.config, self.checkpoint,
                               self.calibrator_cfg)

    def _build_calibrator(self) -> nn.Module:
        if self.calibrator_cfg is None:
            return nn.Identity()
        return build_configured_part('teacher.calibrator', self.calibrator_cfg)

    @property
    def is_built(self) -> bool:
        return self.detector is not None

    def build(self, student: nn.Module) -> None:
        """Build and load the teacher and check that it can teach ``student``.

        Args:
            student (nn.Module): Gives the device, the class count and the
                normalisation that the images arrive in.

        Raises:
            MissingFileError: If config or checkpoint does not exist.
            InvalidTypeError, InvalidValueError: If the config has no
                ``model``, the checkpoint is not the config's, or the class
                counts differ.
        """
        cfg, checkpoint = find_detector(self.config, self.checkpoint)
        # Random initialisation, about to be overwritten, must not move the
        # random stream on which the student's training depends.
        with torch.random.fork_rng(devices=[]):
            detector = build_detector(cfg)
        adapter = SoftmaxRoIHeadAdapter
        adapter.check(detector, 'teacher')
        taught, known = adapter.num_classes(student), adapter.num_classes(
            detector)
        if taught != known:
            raise InvalidValueError(
                f'teacher and student must classify the same classes, but the '
                f'teacher has {known} and the student {taught}: change '
                '`model.teacher.config` or '
                '`model.roi_head.bbox_head.num_classes`')
        if self.calibrator is None:
            self.calibrator = self._build_calibrator()
        if isinstance(self.calibrator, Calibrator):
            self.calibrator.check_cls_channels(known + 1)
            if self.calibrator.activation != adapter.head_activation:
                raise InvalidValueError(
                    '`teacher.calibrator` must be made for '
                    f'{adapter.head_activation} heads, as the teacher\'s is, '
                    f'but {type(self.calibrator).__name__} is for '
                    f'{self.calibrator.activation}: use TemperatureScaling or '
                    'VectorScaling')
        classes = checkpoint_class_names(
            load_whole_checkpoint(detector, checkpoint))
        if classes is not None and len(classes) != known:
            classes = None
        self._check = TeacherCheck(known, classes)
        detector.requires_grad_(False).eval()
        self._renormalize = ImageRenormalization(student.data_preprocessor,
                                                 detector.data_preprocessor)
        print_log(
            self._summary(detector, checkpoint, known, classes), 'current')
        device = next(student.parameters()).device
        self.detector = fold_batch_norms(detector.to(device))
        if device.type == 'cpu':
            adapter.use_torchvision_roi_align(self.detector)
        self.calibrator.to(device).requires_grad_(False).eval()

    def _summary(self, detector: nn.Module, checkpoint: str, num_classes: int,
                 classes: Optional[Sequence[str]]) -> str:
        """Several lines for the log, to be found among those of the config."""
        parameters = sum(weight.numel() for weight in detector.parameters())
        names = 'names unknown: the checkpoint does not hold them'
        if classes is not None:
            names = ', '.join(
                classes[:10]) + (', ...' if num_classes > 10 else '')
        calibrator = self.calibrator
        if self.calibrator_cfg is None:
            calibrator = 'none, the logits as they are'
        return '\n'.join([
            '',
            RULE,
            f'Teacher: {detector_name(detector)}, {parameters:,} parameters',
            f'    config: {describe_config(self.config)}',
            f'    checkpoint: {checkpoint!r}',
            f'    {num_classes} classes: {names}',
            f'    calibrator: {calibrator}',
            RULE,
        ])

    def logits(self, images: Tensor, data_samples: SampleList,
               rois: Tensor) -> Tensor:
        """Calibrated logits of the student's RoIs, without gradient.

        Args:
            images (Tensor): In the student's normalisation, (N, 3, H, W).
            data_samples (list[DetDataSample]): Of these images.
            rois (Tensor): Shape (R, 5).

        Returns:
            Tensor: Shape (R, C).
        """
        with torch.no_grad():
            logits = SoftmaxRoIHeadAdapter.classify(
                self.detector, self._renormalize(images, data_samples), rois)
            return self.calibrator(logits)

    def check_answers(self, logits: Tensor, labels: Optional[Tensor]) -> None:
        """Look at the first steps' logits; see :class:`TeacherCheck`.

        Args:
            logits (Tensor): Answers of :meth:`logits`, shape (R, C).
            labels (Tensor, optional): Assigned classes, shape (R,).
        """
        if self._check is not None:
            self._check.observe(logits, labels)
            if self._check.is_finished:
                self._check = None

    def apply_to_tensors(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move with the student: what ``nn.Module._apply`` gave it."""
        if self.is_built:
            self.detector._apply(fn)
            self.calibrator._apply(fn)


def fold_batch_norms(detector: nn.Module) -> nn.Module:
    """Let convolutions do what the frozen BatchNorms after them do.

    Which convolution a BatchNorm follows is taken from the order in which
    they were registered, as mmcv's ``fuse_conv_bn`` does. A backbone may
    call them in another order: the folded detector is used only if it
    classifies like the original.

    Args:
        detector (nn.Module): In eval; is not changed.

    Returns:
        nn.Module: A folded copy, or the detector itself.
    """
    folded = copy.deepcopy(detector)
    if not _fold_in_order_of_registration(folded):
        return detector
    # RoIs of all sizes, so that each level of a pyramid is used.
    images = torch.linspace(-2, 2, 3 * 128 * 128).view(1, 3, 128, 128)
    rois = torch.tensor([[0, 0, 0, side, side]
                         for side in (32.0, 128.0, 256.0, 512.0)])
    weight = next(detector.parameters())
    with torch.no_grad():
        expected, logits = (
            SoftmaxRoIHeadAdapter.classify(model, images.to(weight),
                                           rois.to(weight))
            for model in (detector, folded))
    # TensorFloat-32 may round by 1e-3; a wrong order changes everything. The
    # logits of masked classes are -inf, whatever the order.
    finite = expected[expected.isfinite()]
    tolerance = 1e-2 * finite.abs().max().item() if len(finite) else 0.0
    if torch.allclose(logits, expected, rtol=0, atol=tolerance):
        return folded
    return detector


def _fold_in_order_of_registration(detector: nn.Module) -> bool:
    """Fold in place; say whether there was anything to fold."""
    found = False
    for parent in detector.modules():
        convolution = None
        for name, module in list(parent.named_children()):
            if (convolution is not None and isinstance(module, _BatchNorm)
                    and module.running_mean is not None
                    and module.num_features == convolution.out_channels):
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight, convolution.bias, module.running_mean,
                    module.running_var, module.eps, module.weight, module.bias)
                setattr(parent, name, nn.Identity())
                found = True
            # A subclass may make its weights anew in each forward.
            convolution = module if type(module) is nn.Conv2d else None
    detector.requires_grad_(False).eval()
    return found
