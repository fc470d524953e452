"""Fit a calibrator to a detector on held-out images, and show what it does.

python tools/calibrate_teacher.py CONFIG CHECKPOINT --out DIR
The config of a student then takes the result with
calibrator=dict(type='TemperatureScaling',
                load_from='DIR/teacher_calibration.json').
"""
import argparse

from tcal_det.commands import ConfigOptions, run_command
from tcal_det.teacher_options import (CALIBRATORS, MAX_SAMPLES, OBJECTIVES,
                                      PROTOCOLS, SPLITS)


def parse_args():
    parser = argparse.ArgumentParser(
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
        help='folder of teacher_calibration.json and the diagrams')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='val',
        help='images that the teacher was not trained on (default: val)')
    parser.add_argument(
        '--calibrator',
        choices=CALIBRATORS,
        default='TemperatureScaling',
        help='calibrator to fit (default: TemperatureScaling)')
    parser.add_argument(
        '--objective',
        choices=OBJECTIVES,
        default='nll',
        help='figure that is smallest at the fitted temperature: negative '
        'log-likelihood or ECE (default: nll)')
    parser.add_argument(
        '--softening',
        type=float,
        default=1.0,
        help='factor of the fitted temperature; above 1 the teacher becomes '
        'slightly under-confident (default: 1.0)')
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        default='train',
        help='RoIs to measure: as distillation sees them (train), or all '
        'proposals (test) (default: train)')
    parser.add_argument(
        '--max-samples',
        type=int,
        default=MAX_SAMPLES,
        help='RoIs to keep, drawn at random if there are more '
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
        help='overrides of config keys: key=value, key="[a,b]", '
        'key="[(a,b)]" (default: none)')
    return parser.parse_args()


def main():
    args = parse_args()
    # Slow to import.
    import logging

    from mmengine.logging import print_log

    from tcal_det.engine.teacher_calibration import (calibrate_teacher,
                                                     check_calibration_options,
                                                     write_teacher_calibration)
    from tcal_det.engine.teacher_logits import collect_teacher_samples
    from tcal_det.engine.teacher_sources import (annotation_files,
                                                 build_calibration_dataloader,
                                                 build_teacher,
                                                 load_teacher_config,
                                                 shares_annotations)
    from tcal_det.fileio import make_output_folder

    check_calibration_options(args.calibrator, args.objective, args.softening)
    cfg, checkpoint = load_teacher_config(args.config, args.checkpoint,
                                          args.cfg_options)
    dataloader = build_calibration_dataloader(cfg, args.split)
    if shares_annotations(cfg, args.split):
        print_log(
            f'the {args.split} split is what this config trains on: a '
            'teacher looks better calibrated there than it is; use held-out '
            'images',
            logger='current',
            level=logging.WARNING)
    detector = build_teacher(cfg, checkpoint)
    make_output_folder(args.out)

    samples = collect_teacher_samples(detector, dataloader, args.protocol,
                                      args.max_samples, args.seed)
    calibration = calibrate_teacher(samples, args.calibrator, args.objective,
                                    args.softening, args.seed)
    path = write_teacher_calibration(
        args.out,
        calibration,
        teacher=dict(config=args.config, checkpoint=checkpoint),
        data=dict(
            split=args.split,
            ann_files=annotation_files(cfg, args.split),
            num_images=samples.num_images),
        samples=dict(
            protocol=args.protocol,
            num_seen=samples.num_seen,
            num_used=len(samples.labels),
            num_assigned_foreground=int(samples.is_foreground.sum()),
            rule=f'uniform over all RoIs seen, at most {args.max_samples}, '
            f'reservoir sampling with seed {args.seed}'))
    print(calibration.table())
    print(f'{calibration.calibrator}\nwritten to {path}')


if __name__ == '__main__':
    run_command(main)
