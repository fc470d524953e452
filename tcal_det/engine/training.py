"""What ``tools/train.py`` and ``tools/test.py`` do around the Runner.

mmdet's own tools run our configs as well; what stands here are remedies for
the user's edge: data that is not there, weights that cannot be downloaded,
and several processes on a machine without a GPU.
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
    """Let ``--launcher pytorch`` work on a machine without a GPU.

    mmengine's launcher selects a CUDA device; with the gloo group already
    there it selects none.

    Args:
        cfg (Config): Changed in place: DDP without device ids.
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
    """Part with the other processes before the interpreter ends.

    A gloo group that is still there then may abort a run that has succeeded
    (``terminate called without an active exception``), and torch >= 2.4 warns
    about any group that is left to itself. Does nothing in a single process.
    """
    if not (torch.distributed.is_available()
            and torch.distributed.is_initialized()):
        return
    if torch.distributed.get_backend() == 'gloo':
        # A worker thread of gloo may still have to let go of the last
        # collective's tensors, for which it needs the GIL. Before torch 2.4
        # the group is destroyed with the GIL held, and the two wait for each
        # other for ever.
        time.sleep(GLOO_RELEASE_SECONDS)
    torch.distributed.destroy_process_group()


def use_mixed_precision(cfg: Config) -> None:
    """Apply ``--amp``: float16 on a GPU, bfloat16 on a CPU.

    Args:
        cfg (Config): Its ``optim_wrapper`` is changed in place.
    """
    # Whole names, which need no default scope and can be saved as text.
    if is_cuda_available():
        cfg.optim_wrapper.type = 'mmengine.optim.AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        cfg.optim_wrapper.type = 'tcal_det.engine.CPUAmpOptimWrapper'
        # AmpOptimWrapper's own; bfloat16 needs none of them.
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)


def use_test_time_augmentation(cfg: Config) -> None:
    """Apply ``--tta``: the config's ``tta_model`` around its ``model``.

    Args:
        cfg (Config): Model and test pipeline are changed in place.

    Raises:
        InvalidValueError: If the config does not say how.
    """
    missing = [
        key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None
    ]
    if missing:
        raise InvalidValueError(
            '`--tta` needs `tta_model` and `tta_pipeline` in the config, but '
            f'it has no {" and no ".join(missing)}')
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model
    for dataset in innermost_datasets(cfg.test_dataloader.dataset):
        dataset['pipeline'] = cfg.tta_pipeline


@contextmanager
def missing_weights_named(cfg: Config) -> Iterator[None]:
    """Say which key of the config names weights that are missing.

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
            # The message of a failed download tells no address.
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
    """The key and the source of each file of weights but the teacher's."""
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
