"""The teacher: found, checked, loaded, calibrated, and never trained."""
import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, Callable, List, Optional, Sequence, Union

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
from ..head_adapters import (ClassificationSamples, HeadAdapter, adapter_for,
                             check_pair)
from .detector_files import (build_detector, describe_config, find_detector,
                             load_whole_checkpoint)
from .image_normalization import ImageRenormalization
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
        self.adapter: Optional[HeadAdapter] = None
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
        return self.adapter is not None

    @property
    def detector(self) -> Optional[nn.Module]:
        return None if self.adapter is None else self.adapter.detector

    def build(self, student: nn.Module) -> None:
        """Build and load the teacher and check that it can teach ``student``.

        Args:
            student (nn.Module): Gives the device, the samples to answer for
                and the normalisation that the images arrive in.

        Raises:
            MissingFileError: If config or checkpoint does not exist.
            InvalidTypeError, InvalidValueError: If the config has no
                ``model``, the checkpoint is not the config's, or the teacher
                cannot answer for this student's samples.
        """
        cfg, checkpoint = find_detector(self.config, self.checkpoint)
        # Random initialisation, about to be overwritten, must not move the
        # random stream on which the student's training depends.
        with torch.random.fork_rng(devices=[]):
            detector = build_detector(cfg)
        adapter = adapter_for(detector, 'teacher')
        student_adapter = adapter_for(student, 'student')
        check_pair(student_adapter, adapter)
        if self.calibrator is None:
            self.calibrator = self._build_calibrator()
        if isinstance(self.calibrator, Calibrator):
            check_calibrator(self.calibrator, adapter)
        num_classes = adapter.num_classes
        classes = checkpoint_class_names(
            load_whole_checkpoint(detector, checkpoint))
        if classes is not None and len(classes) != num_classes:
            classes = None
        self._check = TeacherCheck(
            num_classes,
            classes,
            has_background=adapter.cls_channels > num_classes,
            sample_name=adapter.sample_name)
        detector.requires_grad_(False).eval()
        self._renormalize = ImageRenormalization(student.data_preprocessor,
                                                 detector.data_preprocessor)
        print_log(
            self._summary(detector, checkpoint, num_classes, classes),
            'current')
        device = next(student.parameters()).device
        self.adapter = adapter_for(
            fold_batch_norms(detector.to(device)), 'teacher')
        self.adapter.prepare_as_teacher(student_adapter)
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

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        """See a batch, before it is known what the student samples.

        Args:
            images (Tensor): In the student's normalisation, (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images.

        Returns:
            Any: What :meth:`logits` takes.
        """
        with torch.no_grad():
            return self.adapter.look(
                self._renormalize(images, data_samples), data_samples)

    def logits(self, seen: Any,
               groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        """Calibrated logits of the student's samples, without gradient.

        Args:
            seen (Any): What :meth:`look` returned of the batch.
            groups (sequence[ClassificationSamples]): What the student
                classified.

        Returns:
            list[Tensor]: For each group, shape (S, C).
        """
        with torch.no_grad():
            answers = self.adapter.answer(seen, groups)
            # One after the other leaves the list: a dense head's are large.
            return [
                self.calibrator(answers.pop(0)) for _ in range(len(answers))
            ]

    def check_answers(self, answers: Sequence[Tensor],
                      groups: Sequence[ClassificationSamples]) -> None:
        """Look at the first steps' logits; see :class:`TeacherCheck`.

        Args:
            answers (sequence[Tensor]): Those of :meth:`logits`.
            groups (sequence[ClassificationSamples]): Samples, with their
                assigned classes.
        """
        if self._check is not None:
            self._check.observe(answers, [group.labels for group in groups])
            if self._check.is_finished:
                self._check = None

    def apply_to_tensors(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move with the student: what ``nn.Module._apply`` gave it."""
        if self.is_built:
            self.detector._apply(fn)
            self.calibrator._apply(fn)


def check_calibrator(calibrator: Calibrator, teacher: HeadAdapter) -> None:
    """Refuse a calibrator of another kind of head.

    Args:
        calibrator (Calibrator): What ``teacher.calibrator`` made.
        teacher (HeadAdapter): Adapter of the teacher.

    Raises:
        InvalidValueError: If activation or number of columns differ.
    """
    if calibrator.activation != teacher.activation:
        others = dict(
            softmax='TemperatureScaling or VectorScaling',
            sigmoid="PlattScaling, FocalPosterior or TemperatureScaling with "
            "activation='sigmoid'")[teacher.activation]
        raise InvalidValueError(
            f'`teacher.calibrator` must be made for {teacher.activation} '
            f"heads, as that of the teacher {teacher.name} is, but "
            f'{type(calibrator).__name__} is for {calibrator.activation}: use '
            f'{others}')
    calibrator.check_cls_channels(teacher.cls_channels)


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
    with torch.no_grad():
        expected, logits = (
            adapter_for(model, 'teacher').probe()
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
    # RTMDet's levels share convolutions, and follow them with BatchNorms of
    # their own.
    places = Counter(child for parent in detector.modules()
                     for child in parent.children())
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
            convolution = None
            if type(module) is nn.Conv2d and places[module] == 1:
                convolution = module
    detector.requires_grad_(False).eval()
    return found
