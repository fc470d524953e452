"""Test a detector, with the interface of mmdet's ``tools/test.py``.

python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE.pkl] ...
The test of a distill config does not need the files of the teacher.
"""
import os.path as osp

from tcal_det.commands import CommandParser, parse_launch_args, run_command


def parse_args():
    parser = CommandParser(description='Test a detector')
    parser.add_argument('config', help='test config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint: a path or a URL; code in the file is not run')
    parser.add_argument(
        '--work-dir',
        help='folder for the metrics (default: `work_dir` of the config, or '
        'work_dirs/CONFIG_NAME if it has none)')
    parser.add_argument(
        '--split',
        choices=['test', 'val'],
        default='test',
        help='split of the config to test on; its dataloader and evaluator '
        'are used, and WORK_DIR/val for val (default: test)')
    parser.add_argument(
        '--out', help='.pkl file to write with the predictions')
    parser.add_argument(
        '--report',
        metavar='FILE.html',
        help='HTML page of `tcal-report` to write (default: none)')
    parser.add_argument(
        '--show', action='store_true', help='show the predictions')
    parser.add_argument(
        '--show-dir',
        help='folder for painted images, in WORK_DIR/TIMESTAMP/SHOW_DIR')
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds per shown image (default: 2)')
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='accept a checkpoint whose weights differ from those of the '
        'model; missing weights stay random')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="use test-time augmentation with the config's `tta_model` and "
        '`tta_pipeline`')
    return parse_launch_args(parser)


def main():
    args = parse_args()
    # Slow to import.
    from mmdet.engine.hooks.utils import trigger_visualization_hook
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from tcal_det.checkpoint_file import read_checkpoints_safely
    from tcal_det.config_file import load_config, merge_options
    from tcal_det.dataset_files import check_data
    from tcal_det.engine.hooks.checkpoint_fit_hook import CheckpointFitHook
    from tcal_det.engine.training import (leave_process_group,
                                          prepare_cpu_launch,
                                          use_test_time_augmentation,
                                          use_validation_split)
    from tcal_det.errors import InvalidValueError, MissingFileError
    from tcal_det.evaluation.metrics.annotation_check import \
        check_metric_annotations
    from tcal_det.evaluation.metrics.detection_dump import AtomicDumpDetResults
    from tcal_det.fileio import make_output_folder
    from tcal_det.models.detectors import check_test_options

    setup_cache_size_limit_of_dynamo()
    read_checkpoints_safely()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise InvalidValueError(
            f'`--out` must end in .pkl or .pickle, but got {args.out!r}')
    if args.out is not None:
        make_output_folder(osp.dirname(osp.abspath(args.out)))
    if args.report is not None:
        # Its packages are optional.
        from tcal_det.report import prepare_report
        prepare_report(args.report, '`--report`')

    cfg = load_config(args.config)
    cfg.launcher = args.launcher
    merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs',
                                osp.splitext(osp.basename(args.config))[0])
    if '://' not in args.checkpoint and not osp.isfile(args.checkpoint):
        raise MissingFileError(
            f'checkpoint {args.checkpoint!r} does not exist')
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)

    if args.split == 'val':
        use_validation_split(cfg)
        # Else compare_runs.py takes its figures for those of the test split.
        cfg.work_dir = osp.join(cfg.work_dir, 'val')
    check_test_options(cfg.model)
    if args.tta:
        use_test_time_augmentation(cfg)

    check_data(cfg, 'test_dataloader')
    check_metric_annotations(cfg, 'test')
    prepare_cpu_launch(cfg)
    runner = (
        RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg))
    runner.register_hook(
        CheckpointFitHook(args.checkpoint, args.allow_partial))
    if args.report is not None:
        from tcal_det.engine.hooks.report_hook import ReportHook
        runner.register_hook(ReportHook(args.report))
    if args.out is not None:
        runner.test_evaluator.metrics.append(
            AtomicDumpDetResults(out_file_path=args.out))
    runner.test()
    leave_process_group()


if __name__ == '__main__':
    run_command(main)
