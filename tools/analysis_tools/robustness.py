"""Measure accuracy and calibration under corruptions and attacks.

python tools/analysis_tools/robustness.py CONFIG CHECKPOINT --out PREFIX
writes PREFIX.md, PREFIX.png and PREFIX.json, and PREFIX.cells.json. A run that
was killed, or that is repeated with further corruptions or attacks, continues
from PREFIX.cells.json.
"""
import os.path as osp

from tcal_det.checks import check_count, check_non_negative
from tcal_det.commands import (CommandParser, ConfigOptions, one_line_warnings,
                               run_command)
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.bootstrap import check_resampling
from tcal_det.fileio import (make_output_prefix_folder, write_json_atomically,
                             write_text_atomically)
from tcal_det.robustness.options import (ATTACKS, CONFIDENCE, CORRUPTIONS,
                                         EPSILONS, MOST_EPSILON, NONE,
                                         NUM_RESAMPLES, SEVERITIES, SPLITS)


def parse_args():
    parser = CommandParser(
        description='Measure a detector on corrupted and attacked images')
    parser.add_argument(
        'config',
        help="config of the detector, which may be a distill config: a path "
        "or an 'mmdet::' name")
    parser.add_argument(
        'checkpoint',
        help="checkpoint: a path, a URL, or 'auto' for an 'mmdet::' config; "
        'code in the file is not run')
    parser.add_argument(
        '--out',
        required=True,
        metavar='PREFIX',
        help='beginning of the file names PREFIX.md, PREFIX.png, PREFIX.json '
        'and PREFIX.cells.json')
    parser.add_argument(
        '--corruptions',
        nargs='+',
        choices=(*CORRUPTIONS, NONE),
        metavar='NAME',
        help=f'corruptions of COCO-C, or none: {", ".join(CORRUPTIONS)} '
        '(default: all)')
    parser.add_argument(
        '--severities',
        nargs='+',
        type=int,
        choices=SEVERITIES,
        help='severities of each corruption (default: all)')
    parser.add_argument(
        '--attacks',
        nargs='+',
        choices=(*ATTACKS, NONE),
        help='attacks on the losses of the detector, or none (default: both)')
    parser.add_argument(
        '--epsilons',
        nargs='+',
        type=float,
        metavar='EPSILON',
        help='largest changes of a pixel by each attack, on a scale of 0 to '
        f'255 (default: {" ".join(f"{epsilon:g}" for epsilon in EPSILONS)})')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='test',
        help='split whose images the detector was not trained on (default: '
        'test)')
    parser.add_argument(
        '--max-images',
        type=int,
        metavar='NUMBER',
        help='maximum number of images; more are sampled at random (default: '
        'all)')
    parser.add_argument(
        '--num-resamples',
        type=int,
        default=NUM_RESAMPLES,
        help='number of resamples of the images, for the intervals; 0 leaves '
        f'the intervals out (default: {NUM_RESAMPLES})')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of corruptions, attacks, resamples and drawn '
        'images (default: 0)')
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='accept a checkpoint whose weights differ from those of the '
        'model; missing weights stay random')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='new values of config keys: key=value, key="[a,b]", '
        'key="[(a,b)]" (default: none)')
    return parser.parse_args()


def chosen(argument, given, default):
    """Return the values of a list option; the word 'none' gives no value."""
    if given is None:
        return default
    if NONE not in given:
        return given
    if len(given) > 1:
        raise InvalidValueError(
            f'`{argument}` must be names or none, but got {" ".join(given)}')
    return ()


def check_args(args):
    for epsilon in args.epsilons or ():
        if check_non_negative('--epsilons', epsilon) > MOST_EPSILON:
            raise InvalidValueError(
                f'`--epsilons` must be in [0, {MOST_EPSILON}], but got '
                f'{epsilon:g}')
    if check_count('--num-resamples', args.num_resamples, 0):
        check_resampling(args.num_resamples, CONFIDENCE, '--num-resamples')
    check_count('--seed', args.seed, 0)
    if args.max_images is not None:
        check_count('--max-images', args.max_images)


def main():
    args = parse_args()
    check_args(args)
    corruptions = chosen('--corruptions', args.corruptions, CORRUPTIONS)
    attacks = chosen('--attacks', args.attacks, ATTACKS)
    make_output_prefix_folder(args.out)
    # Slow to import.
    from tcal_det.robustness.cell_file import CellFile
    from tcal_det.robustness.corruption import (check_image_sizes,
                                                check_imagecorruptions)
    from tcal_det.robustness.detector_attack import check_losses
    from tcal_det.robustness.images import (build_images, class_names,
                                            image_infos)
    from tcal_det.robustness.loading import load_detector, load_detector_config
    from tcal_det.robustness.measurement import ShiftedDetector
    from tcal_det.robustness.run import measure_all, settings_of
    from tcal_det.robustness.shifts import plan_shifts
    from tcal_det.robustness.summary import RobustnessSummary
    from tcal_det.robustness.table import overview_table, robustness_tables
    from tcal_det.teachers.sources import annotation_files, shares_annotations
    from tcal_det.visualization import save_figure
    from tcal_det.visualization.robustness_figure import robustness_figure

    # Find all mistakes before the first measurement, which takes long.
    if corruptions:
        check_imagecorruptions()
    cfg, checkpoint = load_detector_config(args.config, args.checkpoint,
                                           args.cfg_options)
    dataloader, corruption = build_images(
        cfg, args.split, args.max_images, args.seed, for_losses=bool(attacks))
    if corruptions:
        check_image_sizes(image_infos(dataloader.dataset))
    if shares_annotations(cfg, args.split):
        print(f'warning: the config trains on the {args.split} split')
    detector = load_detector(cfg, checkpoint, args.allow_partial)
    shifted = ShiftedDetector(detector, dataloader, corruption,
                              class_names(dataloader.dataset),
                              args.num_resamples, args.seed)
    if attacks:
        check_losses(detector, dataloader)
    cell_file = CellFile(
        f'{args.out}.cells.json',
        settings_of(cfg, detector, args.split, args.max_images,
                    args.num_resamples, args.seed))

    shifts = plan_shifts(corruptions, args.severities or SEVERITIES, attacks,
                         args.epsilons or EPSILONS)
    summary = RobustnessSummary.from_cells(
        measure_all(shifted, shifts, cell_file))
    content = dict(
        summary.to_dict(),
        config=args.config,
        checkpoint=checkpoint,
        split=args.split,
        ann_files=annotation_files(cfg, args.split),
        num_images=len(dataloader.dataset),
        num_resamples=args.num_resamples,
        seed=args.seed)
    name = osp.basename(args.config)
    title = (f'{name} on {len(dataloader.dataset)} images of the '
             f'{args.split} split')
    write_text_atomically(f'{args.out}.md',
                          f'# {title}\n\n{robustness_tables(summary)}\n')
    save_figure(robustness_figure(content, title), f'{args.out}.png', dpi=110)
    # Written last, so that its presence shows that all files are complete.
    write_json_atomically(f'{args.out}.json', content)
    print(overview_table(summary))
    print(f'written: {args.out}.md, .png, .json')


if __name__ == '__main__':
    with one_line_warnings():
        run_command(main)
