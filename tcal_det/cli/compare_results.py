"""Compare the figures of results files, with confidence intervals.

tcal-compare GROUND_TRUTH A B [--out FILE.json] [--slice ATTRIBUTE ...]
"""
import os.path as osp
import sys

from tcal_det.checks import check_count
from tcal_det.commands import CommandParser, one_line_warnings, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.bootstrap import check_resampling
from tcal_det.evaluation.file_comparison import SliceRule, compare_files
from tcal_det.evaluation.image_resampling import ProgressLine
from tcal_det.fileio import make_output_folder, write_json_atomically
from .eval_calibration import as_score_thr
from .options import (add_evaluation_options, add_input_arguments,
                      evaluation_options)


def parse_args():
    parser = CommandParser(
        description='AP and calibration of results on the same images, with '
        'bootstrap intervals of the figures and of their differences from '
        'the first results')
    add_input_arguments(parser, nargs='+')
    parser.add_argument(
        '--out', metavar='FILE', help='JSON file to write (default: none)')
    parser.add_argument(
        '--score-thr',
        default='none',
        help='lowest score of the detections that count, for all figures but '
        "AP and OCE: 'none', a number, 'lrp_optimal' (chosen for each results "
        'file), or a file of `tcal-recalibrate fit` with thresholds (default: '
        'none)')
    parser.add_argument(
        '--slice',
        nargs='+',
        metavar='ATTRIBUTE',
        dest='slices',
        help='also compare the images of each value of an attribute: a field '
        'of the image records, or a .json file {image file name or id: '
        'value}; ATTRIBUTE:10,20 sorts numbers into ranges (default: none)')
    parser.add_argument(
        '--num-resamples',
        type=int,
        default=1000,
        metavar='NUM',
        help='number of resamples of the images, at least 40 for 95 %% '
        '(default: 1000)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of the resamples (default: 0)')
    parser.add_argument(
        '--confidence',
        type=float,
        default=0.95,
        metavar='LEVEL',
        help='confidence level of the intervals, in (0, 1) (default: 0.95)')
    parser.add_argument(
        '--workers',
        type=int,
        metavar='NUM',
        help='number of processes, which does not change the result '
        '(default: OMP_NUM_THREADS if it is set, else all processors)')
    add_evaluation_options(parser)
    return parser.parse_args()


def as_slice_rule(text):
    attribute, colon, edges = text.rpartition(':')
    # A path may contain a colon, too.
    if not colon or not set(edges) <= set('0123456789+-.,e '):
        return SliceRule(text)
    try:
        return SliceRule(attribute, [float(edge) for edge in edges.split(',')])
    except ValueError:
        raise InvalidValueError(
            '`--slice` must be ATTRIBUTE or ATTRIBUTE:NUMBER,NUMBER,..., but '
            f'got {text!r}') from None


def compare(args):
    args.score_thr = as_score_thr(args.score_thr)
    slice_rules = [as_slice_rule(text) for text in args.slices or ()]
    check_resampling(args.num_resamples, args.confidence, '--num-resamples')
    check_count('--seed', args.seed, 0)
    if args.workers is not None:
        check_count('--workers', args.workers)
    if args.out is not None:
        # Checked now, not after the resampling, which can take long.
        if osp.isdir(args.out):
            raise InvalidValueError(
                f'`--out` must be a file, but {args.out!r} is a folder')
        make_output_folder(osp.dirname(osp.abspath(args.out)))
    comparison = compare_files(
        args.ground_truth,
        args.results,
        args.classes,
        args.images,
        args.names,
        slice_rules,
        num_resamples=args.num_resamples,
        seed=args.seed,
        confidence=args.confidence,
        num_workers=args.workers,
        progress=ProgressLine(lambda line: print(line, file=sys.stderr)),
        **evaluation_options(args))
    print(comparison.table())
    if args.out is not None:
        write_json_atomically(args.out, comparison.to_dict())
        print(f'written: {args.out}')


def main():
    """Run ``tcal-compare``."""
    with one_line_warnings():
        run_command(lambda: compare(parse_args()))


if __name__ == '__main__':
    main()
