"""Convert the config of a run to the config of the plain mmdet detector."""
import re
from typing import Any, Dict

from tcal_det.errors import InvalidValueError

# Arguments of the distiller and of RecalibratedDetector.
_WRAPPER_KEYS = ('student_type', 'detector_type', 'teacher', 'distill_losses')
# Keys with the paths of a run: its initial weights, work dir and base configs.
_PRIVATE_KEYS = ('load_from', 'resume', 'work_dir', '_base_')
# Plain types that replace types of this package.
_PLAIN_TYPES = dict(
    AtomicCheckpointHook='CheckpointHook', CPUAmpOptimWrapper='OptimWrapper')
# Not None, which is a valid value.
_LEFT_OUT = object()


def plain_detector_config(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """Remove everything from a config that only its training needed.

    Removed are the teacher, distillation losses, recalibration of scores,
    metrics and hooks of this package, files of pretrained weights, and the
    paths of the run.

    Args:
        cfg (dict): Config of a run; it is not changed.

    Returns:
        dict: Config that mmdet reads without this package.

    Raises:
        InvalidValueError: If the config has no ``model``.
    """
    if not isinstance(cfg.get('model'), dict):
        raise InvalidValueError('a config must have the key `model`, but has '
                                f'only {sorted(cfg)}')
    plain = {
        key: _without_own_parts(value)
        for key, value in cfg.items() if key not in _PRIVATE_KEYS
    }
    plain['model'] = _plain_model(cfg['model'])
    for key in ('val_evaluator', 'test_evaluator'):
        # mmengine needs an evaluator beside a dataloader, even an empty one.
        if plain.get(key) is _LEFT_OUT:
            plain[key] = []
    return {key: item for key, item in plain.items() if item is not _LEFT_OUT}


def _plain_model(model: Dict[str, Any]) -> Dict[str, Any]:
    detector_type = model.get('student_type', model.get('detector_type'))
    plain = {
        key: _without_pretrained(value)
        for key, value in model.items() if key not in _WRAPPER_KEYS
    }
    if detector_type is not None:
        plain['type'] = detector_type
    if isinstance(plain.get('test_cfg'), dict):
        plain['test_cfg'].pop('recalibrator', None)
    return plain


def _without_pretrained(value: Any) -> Any:
    """Remove files of pretrained weights: the checkpoint has all weights."""
    if isinstance(value, dict):
        return {
            key: _without_pretrained(item)
            for key, item in value.items()
            if not (key == 'init_cfg' and isinstance(item, dict)
                    and item.get('type') == 'Pretrained')
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_without_pretrained(item) for item in value)
    return value


def _without_own_parts(value: Any) -> Any:
    """Replace or remove parts whose type is of this package."""
    if isinstance(value, dict):
        name = value.get('type')
        if isinstance(name, str) and name.startswith('tcal_det.'):
            name = _PLAIN_TYPES.get(name.split('.')[-1])
            if name is None:
                return _LEFT_OUT
            value = dict(value, type=name)
        items = {key: _without_own_parts(item) for key, item in value.items()}
        return {
            key: item
            for key, item in items.items() if item is not _LEFT_OUT
        }
    if isinstance(value, (list, tuple)):
        return type(value)(
            kept for kept in map(_without_own_parts, value)
            if kept is not _LEFT_OUT)
    if isinstance(value, str) and re.match(r'tcal_det(\.|$)', value):
        # Import of this package in `custom_imports`.
        return _LEFT_OUT
    return value
