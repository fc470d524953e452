"""Write one HTML page about one or several results files.

tcal-report GT.json RESULTS.json... --out report.html [--images DIR]
"""
import argparse
import os.path as osp

from tcal_det.commands import one_line_warnings, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.results_file import (read_annotations_and_results,
                                              read_json)
from tcal_det.fileio import make_output_folder

SUFFIXES = ('.html', '.htm')


def parse_args():
    parser = argparse.ArgumentParser(
        description='One HTML page about the accuracy and calibration of '
        'detections, which opens in a browser without a network')
    parser.add_argument('ground_truth', help='COCO annotations, JSON')
    parser.add_argument(
        'results',
        nargs='+',
        help='COCO results, JSON, of any framework; or the .pkl that '
        'tools/test.py --out wrote; others are compared with the first')
    parser.add_argument(
        '--out', required=True, metavar='FILE.html', help='page to write')
    parser.add_argument(
        '--images',
        metavar='DIR',
        help="folder that the annotations' `file_name` counts from, for "
        'pictures of the worst images (default: no pictures)')
    parser.add_argument(
        '--names',
        nargs='+',
        metavar='NAME',
        help='what the page calls each results file (default: the names of '
        'the files)')
    parser.add_argument(
        '--title',
        default='Detector calibration report',
        help='title of the page (default: %(default)s)')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='names of the categories to evaluate; of a pickle, the classes '
        'of the data set that it was made with (default: all categories)')
    parser.add_argument(
        '--num-resamples',
        type=int,
        default=500,
        metavar='NUM',
        help='number of bootstrap samples of the images behind the 95 %% '
        'intervals, at least 40; 0 for no intervals (default: %(default)s)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of the samples and of the halves on which '
        'recalibration is tried (default: %(default)s)')
    parser.add_argument(
        '--num-images',
        type=int,
        default=6,
        metavar='NUM',
        help='largest number of pictures of each kind (default: %(default)s)')
    return parser.parse_args()


def result_names(paths, names):
    """What the page calls each results file."""
    if names is None:
        names = [osp.splitext(osp.basename(path))[0] for path in paths]
        if len(set(names)) < len(names):
            names = list(paths)
    if len(names) != len(paths):
        raise InvalidValueError(
            f'`--names` must be {len(paths)} name(s), one for each results '
            f'file, but got {len(names)}')
    repeated = [name for k, name in enumerate(names) if name in names[:k]]
    if repeated:
        raise InvalidValueError(
            'each results file must have a name of its own, but got '
            f'{repeated[0]!r} twice; give them with `--names`')
    return names


def report(args):
    if not args.out.lower().endswith(SUFFIXES):
        raise InvalidValueError(
            f'`--out` must end in .html, but got {args.out!r}')
    names = result_names(args.results, args.names)
    # Slow to import.
    from tcal_det.report import check_requirements, image_paths, write_report
    check_requirements()
    make_output_folder(osp.dirname(osp.abspath(args.out)))
    image_files = None
    if args.images is not None:
        image_files = image_paths(
            read_json(args.ground_truth, 'ground truth'), args.images)
    results = {}
    for name, path in zip(names, args.results):
        ground_truth, results[name], _ = read_annotations_and_results(
            args.ground_truth, path, args.classes)
    write_report(
        args.out,
        ground_truth,
        results,
        image_files,
        title=args.title,
        num_resamples=args.num_resamples,
        seed=args.seed,
        num_images=args.num_images)
    print(f'written: {args.out}')


def main():
    """Run ``tcal-report``."""
    with one_line_warnings():
        run_command(lambda: report(parse_args()))
