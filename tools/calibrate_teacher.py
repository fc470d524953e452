"""Fit a calibrator to a detector on held-out images and measure its effect.

python tools/calibrate_teacher.py CONFIG CHECKPOINT --out DIR
The config of a student then loads the result with
calibrator=dict(type='TemperatureScaling',
                load_from='DIR/teacher_calibration.json'),
or, for a teacher with a sigmoid head, with type='PlattScaling'.
"""
import os.path as osp

from tcal_det.commands import (CommandParser, ConfigOptions, one_line_warnings,
                               run_command)
from tcal_det.teacher_options import (CALIBRATORS, MAX_SAMPLES, OBJECTIVES,
                                      PROTOCOLS, SELECTIONS, SPLITS)


def parse_args():
    parser = CommandParser(
        description='Calibrate a teacher on held-out images')
    parser.add_argument(
        'config', help="config of the teacher: a path or an 'mmdet::' name")
    parser.add_argument(
        'checkpoint',
        help="weights of the teacher: a path, a URL, or 'auto' for an "
        "'mmdet::' config")
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder for teacher_calibration.json and the diagrams')
    parser.add_argument(
        '--report',
        metavar='FILE.html',
        help="HTML page of `tcal-report` to write, about the teacher's "
        'detections on the same images; needs a second pass (default: none)')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='val',
        help='split whose images the teacher was not trained on (default: '
        'val)')
    parser.add_argument(
        '--calibrator',
        choices=CALIBRATORS,
        help='calibrator to fit (default: TemperatureScaling for softmax, '
        'PlattScaling for sigmoid heads)')
    parser.add_argument(
        '--objective',
        choices=OBJECTIVES,
        default='nll',
        help='quantity that the fit minimises: negative log-likelihood or, '
        'for the temperature of softmax heads, ECE (default: nll)')
    parser.add_argument(
        '--fit-to',
        choices=SELECTIONS,
        default='scored',
        help='pairs to which the calibrator of a sigmoid head is fitted: '
        'those with a score above 0.05, or all (default: scored)')
    parser.add_argument(
        '--softening',
        type=float,
        default=1.0,
        help='factor of the fitted temperature; for sigmoid heads it softens '
        'about the base rate; above 1 the teacher becomes slightly '
        'under-confident (default: 1.0)')
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        default='train',
        help='RoIs to measure: the RoIs that distillation samples (train), or '
        'all proposals (test); a dense head has the same priors in both '
        '(default: train)')
    parser.add_argument(
        '--max-samples',
        type=int,
        default=MAX_SAMPLES,
        help='maximum number of RoIs, or of pairs of a prior and a class of '
        'each selection; more are sampled at random '
        f'(default: {MAX_SAMPLES})')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of the sampled RoIs and of the folds (default: 0)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='new values of config keys: key=value, key="[a,b]", '
        'key="[(a,b)]" (default: none)')
    return parser.parse_args()


def main():
    args = parse_args()
    # Slow to import.
    import logging

    from mmengine.logging import print_log

    from tcal_det.models.head_adapters import adapter_for
    from tcal_det.report import prepare_report, write_report
    from tcal_det.teachers.calibration import check_calibration_options
    from tcal_det.teachers.detections import collect_detections
    from tcal_det.teachers.fitting import fit_teacher
    from tcal_det.teachers.image_folds import describe_fits
    from tcal_det.teachers.sources import (annotation_files,
                                           build_calibration_dataloader,
                                           build_teacher, load_teacher_config,
                                           shares_annotations)

    if args.report is not None:
        prepare_report(args.report, '`--report`')
    check_calibration_options(args.calibrator, args.objective, args.softening)
    cfg, checkpoint = load_teacher_config(args.config, args.checkpoint,
                                          args.cfg_options)
    dataloader = build_calibration_dataloader(cfg, args.split)
    if shares_annotations(cfg, args.split):
        print_log(
            f'this config trains on the {args.split} split: a teacher looks '
            'better calibrated there than it is; use held-out images',
            logger='current',
            level=logging.WARNING)
    detector = build_teacher(cfg, checkpoint)
    calibration, path = fit_teacher(
        detector,
        dataloader,
        args.out,
        teacher=dict(config=args.config, checkpoint=checkpoint),
        data=dict(
            split=args.split, ann_files=annotation_files(cfg, args.split)),
        calibrator=args.calibrator,
        objective=args.objective,
        fit_to=args.fit_to,
        softening=args.softening,
        protocol=args.protocol,
        max_samples=args.max_samples,
        seed=args.seed)
    print(calibration.table())
    fits = describe_fits(calibration.calibrator, calibration.fold_calibrators)
    print(f'{fits}\nwritten to {path}')
    if args.report is not None:
        collected = collect_detections(
            detector, dataloader,
            adapter_for(detector, 'teacher').num_classes,
            dataloader.dataset.metainfo.get('classes'))
        write_report(args.report, collected.ground_truth,
                     {osp.basename(args.config): collected.detections},
                     collected.image_files)
        print(f'report written to {args.report}')


if __name__ == '__main__':
    with one_line_warnings():
        run_command(main)
