"""Train the model of a config: what ``tools/train.py`` does, as a function."""
import argparse
import os.path as osp
from typing import Optional

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from tcal_det.checkpoint_file import read_checkpoints_safely
from tcal_det.config_file import load_config, merge_options
from tcal_det.dataset_files import check_data
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.metrics.annotation_check import \
    check_metric_annotations
from tcal_det.fileio import make_output_folder
from .dataset_classes import check_class_order
from .resuming import check_same_checkpoint, resume
from .training import (leave_process_group, missing_weights_named,
                       prepare_cpu_launch, use_mixed_precision)


def default_work_dir(config: str) -> str:
    """Where logs and checkpoints of a config go by default.

    Args:
        config (str): Path of the config.
    """
    return osp.join('work_dirs', osp.splitext(osp.basename(config))[0])


def train(config: str,
          options: argparse.Namespace,
          work_dir: Optional[str] = None) -> None:
    """Train the model of a config.

    Args:
        config (str): Path of the config.
        options (Namespace): What
            ``commands.parse_training_args`` returned.
        work_dir (str, optional): Where logs and checkpoints go. Defaults to
            None: ``work_dir`` of the config, else of
            :func:`default_work_dir`.

    Raises:
        MissingFileError, InvalidTypeError, InvalidValueError: If something
            that the user can mend keeps the training from starting.
    """
    setup_cache_size_limit_of_dynamo()
    read_checkpoints_safely()

    cfg = load_config(config)
    cfg.launcher = options.launcher
    merge_options(cfg, options.cfg_options)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = default_work_dir(config)
    if options.amp:
        use_mixed_precision(cfg)
    if options.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InvalidValueError(
                '`--auto-scale-lr` needs `auto_scale_lr.base_batch_size` in '
                f'the config, but {config!r} has none')
        cfg.auto_scale_lr.enable = True
    notes = [] if options.resume is None else resume(cfg, options.resume)

    check_data(cfg, 'train_dataloader', 'val_dataloader')
    check_metric_annotations(cfg, 'val')
    if cfg.model.get('distill_losses'):
        # By their names the classes of a teacher are paired.
        check_class_order(cfg, 'train')
    make_output_folder(cfg.work_dir, '`work_dir` must be')
    prepare_cpu_launch(cfg)
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    if options.resume is not None:
        check_same_checkpoint(cfg)
    for note in notes:
        runner.logger.warning(note)
    with missing_weights_named(cfg):
        runner.train()
    leave_process_group()
