"""Train a detector; mmdet's own interface.

python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume] ...
"""
import argparse
import os
import os.path as osp

from tcal_det.commands import ConfigOptions, run_command
from tcal_det.errors import InvalidValueError


def parse_args():
    parser = argparse.ArgumentParser(description='Train a detector')
    parser.add_argument('config', help='train config file')
    parser.add_argument(
        '--work-dir',
        help='where logs and checkpoints go; defaults to '
        '`work_dir` of the config, else work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with mixed precision: float16 on a GPU, bfloat16 without')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from the given checkpoint, or without a value from '
        'the last whole one in the work dir')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override config keys: key=value, key="[a,b]", key="[(a,b)]"')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; pytorch works without a GPU too (default: none)')
    # torch.distributed.launch passes it.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main():
    args = parse_args()
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from tcal_det.checkpoint_file import read_checkpoints_safely
    from tcal_det.config_file import load_config, merge_options
    from tcal_det.engine.resuming import check_same_checkpoint, resume
    from tcal_det.engine.training import (check_data, leave_process_group,
                                          missing_weights_named,
                                          prepare_cpu_launch,
                                          use_mixed_precision)
    from tcal_det.evaluation.metrics.annotation_check import \
        check_metric_annotations
    from tcal_det.fileio import make_output_folder

    setup_cache_size_limit_of_dynamo()
    read_checkpoints_safely()

    cfg = load_config(args.config)
    cfg.launcher = args.launcher
    merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs',
                                osp.splitext(osp.basename(args.config))[0])
    if args.amp:
        use_mixed_precision(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InvalidValueError(
                '`--auto-scale-lr` needs `auto_scale_lr.base_batch_size` in '
                f'the config, but {args.config!r} has none')
        cfg.auto_scale_lr.enable = True
    notes = [] if args.resume is None else resume(cfg, args.resume)

    check_data(cfg, 'train_dataloader', 'val_dataloader')
    check_metric_annotations(cfg, 'val')
    make_output_folder(cfg.work_dir, '`work_dir` must be')
    prepare_cpu_launch(cfg)
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    if args.resume is not None:
        check_same_checkpoint(cfg)
    for note in notes:
        runner.logger.warning(note)
    with missing_weights_named(cfg):
        runner.train()
    leave_process_group()


if __name__ == '__main__':
    run_command(main)
