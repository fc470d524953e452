"""The teacher: found, checked, loaded, calibrated, and never trained."""
import copy
from collections.abc import Mapping
from typing import Callable, Optional, Tuple, Union

import torch
import torch.nn as nn
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.registry import MODELS
from ..calibrators import Calibrator
from .image_normalization import ImageRenormalization
from .roi_head_adapter import SoftmaxRoIHeadAdapter

ZOO_PREFIX = 'mmdet::'


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
        if calibrator is not None and 'load_from' not in calibrator:
            # Its parameters are here to be checked at once; a file is left
            # alone until training starts, for testing needs none.
            self.calibrator = self._build_calibrator()
        self.detector: Optional[nn.Module] = None
        self._renormalize: Optional[ImageRenormalization] = None

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        # An EMA or exported copy of the student must not carry a copy of the
        # teacher; should the copy ever train, it builds its own.
        return FrozenTeacher(self.config, self.checkpoint, self.calibrator_cfg)

    def _build_calibrator(self) -> nn.Module:
        if self.calibrator_cfg is None:
            return nn.Identity()
        return MODELS.build(dict(self.calibrator_cfg, _scope_='tcal_det'))

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
            detector = MODELS.build(
                dict(cfg['model'], _scope_=cfg.get('default_scope', 'mmdet')))
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
            self.calibrator.check_num_classes(known + 1)
            if self.calibrator.activation != adapter.head_activation:
                raise InvalidValueError(
                    '`teacher.calibrator` must be made for '
                    f'{adapter.head_activation} heads, as the teacher\'s is, '
                    f'but {type(self.calibrator).__name__} is for '
                    f'{self.calibrator.activation}: use TemperatureScaling or '
                    'VectorScaling')
        load_whole_checkpoint(detector, checkpoint)
        detector.requires_grad_(False).eval()
        self._renormalize = ImageRenormalization(student.data_preprocessor,
                                                 detector.data_preprocessor)
        device = next(student.parameters()).device
        self.detector = fold_batch_norms(detector.to(device))
        if device.type == 'cpu':
            adapter.use_torchvision_roi_align(self.detector)
        self.calibrator.to(device).requires_grad_(False).eval()
        print_log(
            f'Teacher: {type(detector).__name__} from {checkpoint}, logits '
            f'calibrated by {self.calibrator}', 'current')

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
    # TensorFloat-32 may round by 1e-3; a wrong order changes everything.
    tolerance = 1e-2 * expected.abs().max().item()
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


def find_detector(config: Union[str, Config, dict],
                  checkpoint: str) -> Tuple[Union[Config, dict], str]:
    """Read a teacher's config, and find where its weights are.

    Args:
        config (str | Config | dict): 'mmdet::...' name, path, or a config
            with the key ``model``.
        checkpoint (str): 'auto' for the zoo weights of an 'mmdet::' config,
            a path, or a URL.

    Returns:
        tuple: The config, and a path or URL.

    Raises:
        MissingFileError: If the config does not exist.
        InvalidValueError: If it cannot be read, has no ``model``, or there
            are no weights in the zoo.
    """
    name = describe_config(config)
    if isinstance(config, str):
        try:
            if config.startswith(ZOO_PREFIX):
                config = get_config(config, pretrained=checkpoint == 'auto')
            else:
                config = Config.fromfile(config)
        except FileNotFoundError as error:
            raise MissingFileError(
                f'`teacher.config` {name} does not exist ({error})') from None
        except (SyntaxError, OSError, ValueError, AssertionError) as error:
            raise InvalidValueError(
                f'`teacher.config` {name} cannot be read: {error}') from None
    if 'model' not in config:
        raise InvalidValueError(
            f'`teacher.config` must have the key `model`, but {name} has '
            f'only {sorted(config.keys())}')
    if checkpoint == 'auto':
        checkpoint = config.get('model_path')
        if checkpoint is None:
            raise InvalidValueError(
                "`teacher.checkpoint='auto'` needs an 'mmdet::' config that "
                f'has weights in the zoo, but got {name}: give a path or a '
                'URL')
    return config, checkpoint


def describe_config(config: Union[str, Config, dict]) -> str:
    """Name a teacher config in a message."""
    if isinstance(config, str):
        return repr(config)
    return getattr(config, 'filename', None) or 'the given dict'


def read_checkpoint(checkpoint: str, name: str) -> Mapping:
    """Read a checkpoint to the CPU.

    Args:
        checkpoint (str): A path or a URL.
        name (str): What a message calls it.

    Returns:
        Mapping: What it holds.

    Raises:
        MissingFileError: If the file does not exist.
        InvalidValueError: If it cannot be read.
    """
    try:
        content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    except FileNotFoundError:
        raise MissingFileError(
            f"{name} does not exist: give a path or a URL, or 'auto' for a "
            "teacher with an 'mmdet::' config") from None
    except Exception as error:
        # Unpickling a damaged file can raise nearly anything.
        raise InvalidValueError(
            f'{name} cannot be read, it is damaged or not a checkpoint '
            f'({type(error).__name__}: {error})') from None
    if not isinstance(content, Mapping):
        raise InvalidValueError(f'{name} must hold a state dict, but holds a '
                                f'{type(content).__name__}')
    return content


def load_whole_checkpoint(detector: nn.Module, checkpoint: str) -> None:
    """Load weights of which none may be missing, left over or misshapen.

    Args:
        detector (nn.Module): The teacher.
        checkpoint (str): A path or a URL.

    Raises:
        MissingFileError: If the file does not exist.
        InvalidValueError: If it cannot be read, or is not this detector's.
    """
    where = f'teacher checkpoint {checkpoint!r}'
    try:
        state = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    except FileNotFoundError:
        raise MissingFileError(
            f'{where} does not exist: set `teacher.checkpoint` to a '
            "path, a URL, or 'auto' with an 'mmdet::' config") from None
    except Exception as error:
        # Unpickling a damaged file can raise nearly anything.
        raise InvalidValueError(
            f'{where} cannot be read, it is damaged or not a checkpoint '
            f'({type(error).__name__}: {error})') from None
    if not isinstance(state, Mapping):
        raise InvalidValueError(f'{where} must hold a state dict, but holds a '
                                f'{type(state).__name__}')
    state = state.get('state_dict', state)
    # Files saved from inside a DDP wrapper.
    state = {
        key[len('module.'):] if key.startswith('module.') else key: value
        for key, value in state.items()
    }
    expected = detector.state_dict()
    misshapen = [
        f'{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}'
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if misshapen:
        raise InvalidValueError(
            f'{where} does not fit its config: {_first_three(misshapen)}; '
            'give the checkpoint that `teacher.config` was trained to')
    incompatible = detector.load_state_dict(state, strict=False)
    problems = [
        f'{_first_three(keys)} {problem}'
        for problem, keys in (('missing', incompatible.missing_keys),
                              ('unexpected', incompatible.unexpected_keys))
        if keys
    ]
    if problems:
        raise InvalidValueError(
            f'{where} does not fit its config: {" and ".join(problems)}; '
            'give the checkpoint that `teacher.config` was trained to')


def _first_three(names: list) -> str:
    return (f'{len(names)} keys (' + ', '.join(names[:3]) +
            (', ...)' if len(names) > 3 else ')'))
