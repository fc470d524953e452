"""Write one HTML page about one or several results files.

tcal-report GROUND_TRUTH RESULTS... --out report.html [--images DIR]
"""
import os.path as osp
import warnings
from contextlib import contextmanager

from tcal_det.checks import check_count
from tcal_det.commands import CommandParser, one_line_warnings, run_command
from tcal_det.errors import InvalidValueError, TcalDetWarning
from tcal_det.evaluation.bootstrap import check_resampling
from tcal_det.evaluation.formats import (load_annotations_and_results,
                                         read_annotations)
from .options import add_input_arguments


def parse_args():
    parser = CommandParser(
        description='One HTML page about the accuracy and calibration of '
        'detections, which opens in a browser without a network')
    add_input_arguments(parser, nargs='+')
    parser.add_argument(
        '--out', required=True, metavar='FILE.html', help='page to write')
    parser.add_argument(
        '--result-names',
        nargs='+',
        metavar='NAME',
        help='name of each results file on the page (default: the names of '
        'the files)')
    parser.add_argument(
        '--title',
        default='Detector calibration report',
        help='title of the page (default: Detector calibration report)')
    parser.add_argument(
        '--num-resamples',
        type=int,
        default=500,
        metavar='NUM',
        help='number of bootstrap samples of the images for the 95 %% '
        'intervals, at least 40; 0 for no intervals (default: 500)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of the bootstrap samples and of the halves for the '
        'estimate of recalibration (default: 0)')
    parser.add_argument(
        '--num-images',
        type=int,
        default=6,
        metavar='NUM',
        help='maximum number of pictures of each kind (default: 6)')
    return parser.parse_args()


def result_names(paths, names):
    """Name of each results file on the page."""
    if names is None:
        names = [osp.splitext(osp.basename(path))[0] for path in paths]
        if len(set(names)) < len(names):
            names = list(paths)
    if len(names) != len(paths):
        raise InvalidValueError(
            f'`--result-names` must be {len(paths)} name(s), one for each '
            f'results file, but got {len(names)}')
    repeated = [name for k, name in enumerate(names) if name in names[:k]]
    if repeated:
        raise InvalidValueError(
            'the results files must have different names, but got '
            f'{repeated[0]!r} twice: set them with `--result-names`')
    return names


@contextmanager
def shown_and_collected_warnings():
    """Show warnings as before, and list those of the data."""
    collected, show = [], warnings.showwarning

    def show_and_collect(message, category, *args, **kwargs):
        show(message, category, *args, **kwargs)
        if issubclass(category, TcalDetWarning):
            collected.append(message)

    with warnings.catch_warnings():
        # Also for the second results file, with the same text.
        warnings.simplefilter('always', TcalDetWarning)
        warnings.showwarning = show_and_collect
        yield collected


def report(args):
    names = result_names(args.results, args.result_names)
    # Slow to import.
    from tcal_det.report import image_paths, prepare_report, write_report
    from tcal_det.report.measurement import CONFIDENCE
    prepare_report(args.out, '`--out`')
    if check_count('--num-resamples', args.num_resamples, 0):
        check_resampling(args.num_resamples, CONFIDENCE, '--num-resamples')
    image_files = None
    # A file contains sizes, but no pictures.
    if args.images is not None and not osp.isfile(args.images):
        image_files = image_paths(
            read_annotations(args.ground_truth, args.images, args.names),
            args.images)
    results, data_warnings = {}, {}
    for name, path in zip(names, args.results):
        with shown_and_collected_warnings() as data_warnings[name]:
            ground_truth, results[name], _ = load_annotations_and_results(
                args.ground_truth, path, args.classes, args.images, args.names)
    write_report(
        args.out,
        ground_truth,
        results,
        image_files,
        title=args.title,
        num_resamples=args.num_resamples,
        seed=args.seed,
        num_images=args.num_images,
        data_warnings=data_warnings)
    print(f'written: {args.out}')


def main():
    """Run ``tcal-report``."""
    with one_line_warnings():
        run_command(lambda: report(parse_args()))
