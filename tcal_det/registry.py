"""Child registries of mmdet's registries, with the scope ``tcal_det``.

mmengine imports this module when a config contains ``type='tcal_det.X'``. The
``locations`` are imported on the first look-up, so configs do not need
``custom_imports``.

Every part of the plugin imports this module. Therefore the versions of torch
and mmdet are checked here, before torch and mmdet are imported.
"""
import tcal_det.requirements_check  # noqa: F401 isort:skip

from mmdet.registry import HOOKS as MMDET_HOOKS
from mmdet.registry import METRICS as MMDET_METRICS
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import OPTIM_WRAPPERS as MMDET_OPTIM_WRAPPERS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMDET_MODELS,
    scope='tcal_det',
    locations=['tcal_det.models'])
METRICS = Registry(
    'metric',
    parent=MMDET_METRICS,
    scope='tcal_det',
    locations=['tcal_det.evaluation.metrics'])
HOOKS = Registry(
    'hook',
    parent=MMDET_HOOKS,
    scope='tcal_det',
    locations=['tcal_det.engine'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMDET_OPTIM_WRAPPERS,
    scope='tcal_det',
    locations=['tcal_det.engine'])
