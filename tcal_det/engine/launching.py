"""Train the model of a config; the function behind ``tools/train.py``."""
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
from tcal_det.models.detectors import check_test_options
from .dataset_classes import check_class_order
from .resuming import check_same_checkpoint, resume
from .training import (leave_process_group, missing_weights_named,
                       prepare_cpu_launch, use_mixed_precision)


def default_work_dir(config: str) -> str:
    """Return the default folder for logs and checkpoints of a config.

    Args:
        config (str): Path to the config file.

    Returns:
        str: Path of the folder.
    """
    return osp.join('work_dirs', osp.splitext(osp.basename(config))[0])


def train(config: str,
          options: argparse.Namespace,
          work_dir: Optional[str] = None) -> None:
    """Train the model of a config.

    Args:
        config (str): Path to the config file.
        options (Namespace): Arguments from
            ``commands.parse_training_args``.
        work_dir (str, optional): Folder for logs and checkpoints. Defaults to
            None: ``work_dir`` of the config, or :func:`default_work_dir` if
            the config has none.

    Raises:
        MissingFileError: If a file that the config names does not exist.
        InvalidTypeError: If a value in the config has the wrong type.
        InvalidValueError: If an option or a value in the config is not
            allowed.
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
    check_test_options(cfg.model)
    if cfg.model.get('distill_losses'):
        # The classes of teacher and student are paired by their names.
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
