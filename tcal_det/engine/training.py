"""Functions of ``tools/train.py`` and ``tools/test.py`` around the Runner.

mmdet's own tools run our configs as well. The functions here handle problems
of the environment: weights that cannot be downloaded, mixed precision and
several processes on a machine without a GPU.
"""
import time
from contextlib import contextmanager
from http.client import HTTPException
from typing import Iterator, Tuple
from urllib.error import URLError

import torch
from mmengine.config import Config
from mmengine.device import is_cuda_available

from tcal_det.dataset_files import innermost_datasets
from tcal_det.errors import InvalidValueError, MissingFileError

GLOO_RELEASE_SECONDS = 1.0


def prepare_cpu_launch(cfg: Config) -> None:
    """Make ``--launcher pytorch`` work on a machine without a GPU.

    mmengine's launcher would select a CUDA device; if a gloo process group
    already exists, it does not.

    Args:
        cfg (Config): Config to change, in place: DDP gets no device ids.

    Raises:
        InvalidValueError: If the launcher needs a GPU.
    """
    if cfg.launcher == 'none' or is_cuda_available():
        return
    if cfg.launcher != 'pytorch':
        raise InvalidValueError(
            "`--launcher` must be 'pytorch' (or 'none') on a machine without "
            f'a GPU, but got {cfg.launcher!r}')
    torch.distributed.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False)))


def leave_process_group() -> None:
    """Destroy the process group before the interpreter exits.

    A gloo group that still exists at exit may abort a run that has succeeded
    (``terminate called without an active exception``), and torch >= 2.4 warns
    about every group that is not destroyed. Does nothing in a single process.
    """
    if not (torch.distributed.is_available()
            and torch.distributed.is_initialized()):
        return
    if torch.distributed.get_backend() == 'gloo':
        # A worker thread of gloo may still have to release the tensors of the
        # last collective, for which it needs the GIL. Before torch 2.4 the
        # group is destroyed with the GIL held: a deadlock.
        time.sleep(GLOO_RELEASE_SECONDS)
    torch.distributed.destroy_process_group()


def use_mixed_precision(cfg: Config) -> None:
    """Apply ``--amp``: float16 on a GPU, bfloat16 on a CPU.

    Args:
        cfg (Config): Config whose ``optim_wrapper`` is changed in place.
    """
    # Full names, which need no default scope and can be saved as text.
    if is_cuda_available():
        cfg.optim_wrapper.type = 'mmengine.optim.AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        cfg.optim_wrapper.type = 'tcal_det.engine.CPUAmpOptimWrapper'
        # Arguments of AmpOptimWrapper, which bfloat16 does not need.
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)


def use_validation_split(cfg: Config) -> None:
    """Apply ``--split val``: test with the dataloader and evaluator of val.

    Args:
        cfg (Config): Config that is changed in place.

    Raises:
        InvalidValueError: If the config has no ``val_dataloader`` or no
            ``val_evaluator``.
    """
    for part in ('dataloader', 'evaluator'):
        if not cfg.get(f'val_{part}'):
            raise InvalidValueError(
                f'`--split val` needs `val_{part}` in the config, but it has '
                'none: add it, or leave the option out')
        cfg[f'test_{part}'] = cfg[f'val_{part}']
    if cfg.get('test_cfg') is None:
        # mmengine's Runner takes all three or none.
        cfg.test_cfg = dict(type='TestLoop')


def use_test_time_augmentation(cfg: Config) -> None:
    """Apply ``--tta``: put the config's ``tta_model`` around its ``model``.

    Args:
        cfg (Config): Config whose model and test pipeline are changed in
            place.

    Raises:
        InvalidValueError: If the config has no ``tta_model`` or
            ``tta_pipeline``, or if its model returns class probabilities.
    """
    missing = [
        key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None
    ]
    if missing:
        raise InvalidValueError(
            '`--tta` needs `tta_model` and `tta_pipeline` in the config, but '
            f'it lacks {" and ".join(missing)}')
    if (cfg.model.get('test_cfg') or {}).get('class_probabilities'):
        raise InvalidValueError(
            '`--tta` merges the boxes of several versions of an image, and '
            'merged boxes have no class probabilities: leave it out, or set '
            'model.test_cfg.class_probabilities=False')
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model
    for dataset in innermost_datasets(cfg.test_dataloader.dataset):
        dataset['pipeline'] = cfg.tta_pipeline


@contextmanager
def missing_weights_named(cfg: Config) -> Iterator[None]:
    """Name the config key of weights that cannot be loaded in the error.

    Args:
        cfg (Config): Config of the training that runs in the ``with`` block.

    Raises:
        MissingFileError: If a download fails, or a file does not exist.
    """
    try:
        yield
    except (URLError, HTTPException, ConnectionError, TimeoutError,
            FileNotFoundError) as error:
        weights = dict(_starting_weights(cfg))
        message = str(error)
        named = [
            key for key, source in weights.items()
            if repr(source) in message or message.startswith(source)
        ]
        if not named and not isinstance(error, FileNotFoundError):
            # The message of a failed download does not contain the URL.
            named = [key for key in weights if '://' in weights[key]]
        if not named:
            raise
        key = named[0]
        remedy = f'set it to the path of a file: --cfg-options {key}=PATH'
        parent = key.rpartition('.')[0]
        if parent.endswith('init_cfg'):
            remedy += (', or begin with random weights: --cfg-options '
                       f'{parent}=None')
        raise MissingFileError(
            f'`{key}` names {weights[key]!r}, which cannot be loaded '
            f'({error}): {remedy}') from None


def _starting_weights(cfg: Config) -> Iterator[Tuple[str, str]]:
    """Yield key and source of each file of weights except the teacher's."""
    model = {key: cfg.model[key] for key in cfg.model if key != 'teacher'}
    pending = [('load_from', cfg.get('load_from')), ('model', model)]
    while pending:
        key, value = pending.pop(0)
        if isinstance(value, str):
            if key.split('.')[-1] in ('load_from', 'checkpoint', 'pretrained'):
                yield key, value
        elif isinstance(value, dict):
            pending += [(f'{key}.{name}', value[name]) for name in value]
        elif isinstance(value, (list, tuple)):
            pending += [(f'{key}.{i}', item) for i, item in enumerate(value)]
