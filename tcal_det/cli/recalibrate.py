"""Recalibrate a detector's scores: fit on one split, apply to another.

tcal-recalibrate fit VAL_GT.json VAL_RESULTS \
    --out RECALIBRATION.json [--method --target --classwise --score-thr]
tcal-recalibrate apply TEST_RESULTS \
    RECALIBRATION.json --out NEW_RESULTS.json
"""
import argparse
import os.path as osp

from tcal_det.commands import CommandParser, one_line_warnings, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.formats import load_annotations_and_results
from tcal_det.evaluation.functional import ground_truth_from_coco
from tcal_det.evaluation.results_file import (naming_file, read_json,
                                              read_results)
from tcal_det.fileio import make_output_folder, write_json_atomically
from tcal_det.recalibration import (FEWEST_DETECTIONS, METHODS, TARGETS,
                                    Recalibration, fit_recalibration)
from .options import add_input_arguments


def parse_args():
    parser = CommandParser(
        description='Recalibration of detection scores',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        dest='command',
        required=True,
        metavar='COMMAND',
        help='`COMMAND --help` explains its options')

    fit = commands.add_parser(
        'fit', help='choose thresholds and a map on held-out images')
    add_input_arguments(fit)
    fit.add_argument(
        '--out',
        required=True,
        metavar='FILE.json',
        help='recalibration to write')
    fit.add_argument(
        '--method',
        choices=list(METHODS),
        default='isotonic',
        help='kind of map; all but histogram and size_platt (which depends on '
        'the size of the box) keep the order of the scores and therefore AP '
        '(default: isotonic)')
    fit.add_argument(
        '--target',
        choices=list(TARGETS),
        default='precision',
        help='meaning of a recalibrated score: precision lowers D-ECE, '
        'precision_x_iou lowers LaECE (default: precision)')
    fit.add_argument(
        '--iou-thr',
        type=float,
        metavar='IOU',
        help='IoU threshold of the matching, in [0, 1) (default: 0.5 for '
        'precision, 0 for precision_x_iou)')
    fit.add_argument(
        '--classwise',
        action='store_true',
        help=f'a map for each class with {FEWEST_DETECTIONS} detections or '
        'more (default: one map for all classes)')
    fit.add_argument(
        '--score-thr',
        default='none',
        metavar='SCORE',
        help="score below which detections are left out: 'none', a number "
        "in [0, 1], or 'lrp_optimal', chosen for each class (default: none)")

    apply = commands.add_parser('apply', help='recalibrate other results')
    apply.add_argument(
        'results',
        help='detections to recalibrate: COCO results (.json), or the .pkl of '
        'tools/test.py --out')
    apply.add_argument(
        'recalibration', help='file that `tcal-recalibrate fit` wrote')
    apply.add_argument(
        '--ground-truth',
        metavar='FILE.json',
        help='COCO annotations with the width and height of the images, '
        'required only for size_platt (default: none)')
    apply.add_argument(
        '--out',
        required=True,
        metavar='FILE.json',
        help='COCO results file to write')
    parser.epilog = f'{fit.format_usage()}\n{apply.format_usage()}'
    return parser.parse_args()


def as_score_thr(text):
    if text in ('none', 'lrp_optimal'):
        return None if text == 'none' else text
    try:
        return float(text)
    except ValueError:
        raise InvalidValueError(
            "`--score-thr` must be 'none', 'lrp_optimal' or a number in "
            f'[0, 1], but got {text!r}') from None


def fit(args):
    score_thr = as_score_thr(args.score_thr)
    ground_truth, detections, categories = load_annotations_and_results(
        args.ground_truth, args.results, args.classes, args.images, args.names)
    recalibration = fit_recalibration(ground_truth, detections, categories,
                                      args.method, args.target, args.iou_thr,
                                      args.classwise, score_thr)
    write_json_atomically(args.out, recalibration.to_json_dict())
    print(f'fitted to {recalibration.settings["detections"]} detections; '
          f'written: {args.out}')


def apply(args):
    recalibration = Recalibration.from_file(args.recalibration)
    results = read_results(
        args.results, [entry.category_id for entry in recalibration.classes])
    sizes = None
    if args.ground_truth is not None:
        annotations = read_json(args.ground_truth, 'ground truth')
        with naming_file(args.ground_truth):
            known = ground_truth_from_coco(annotations)
        sizes = dict(zip(known.image_ids.tolist(), known.image_sizes))
    with naming_file(args.results):
        recalibrated = recalibration.apply_to_records(results, sizes)
    # One line, as other tools write results: indenting millions is slow.
    write_json_atomically(args.out, recalibrated, indent=None)
    print(f'{len(recalibrated)} of {len(results)} detections; '
          f'written: {args.out}')


def recalibrate(args):
    make_output_folder(osp.dirname(osp.abspath(args.out)))
    dict(fit=fit, apply=apply)[args.command](args)


def main():
    """Run ``tcal-recalibrate``."""
    with one_line_warnings():
        run_command(lambda: recalibrate(parse_args()))
