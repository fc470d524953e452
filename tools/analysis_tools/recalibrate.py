"""Calibrate a detector's scores after the fact: fit on one split, apply.

python tools/analysis_tools/recalibrate.py fit VAL_GT.json VAL_RESULTS \
    --out CALIBRATION.json [--method --target --classwise --score-thr]
python tools/analysis_tools/recalibrate.py apply TEST_RESULTS \
    CALIBRATION.json --out NEW_RESULTS.json
"""
import argparse
import os.path as osp

from tcal_det.commands import one_line_warnings, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.results_file import (naming_file,
                                              read_annotations_and_results,
                                              read_results)
from tcal_det.evaluation.score_calibration import (FEWEST_DETECTIONS, TARGETS,
                                                   ScoreCalibration,
                                                   fit_score_calibration)
from tcal_det.evaluation.score_maps import SCORE_MAPS
from tcal_det.fileio import make_output_folder, write_json_atomically


def parse_args():
    parser = argparse.ArgumentParser(
        description='Post-hoc calibration of detection scores',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        dest='command',
        required=True,
        metavar='COMMAND',
        help='`COMMAND --help` explains its options')

    fit = commands.add_parser(
        'fit', help='choose thresholds and a map on held-out images')
    fit.add_argument(
        'ground_truth', help='COCO annotations of the held-out images, JSON')
    fit.add_argument(
        'results',
        help='detections in them: COCO results (.json), or the .pkl of '
        'tools/test.py --out')
    fit.add_argument(
        '--out',
        required=True,
        metavar='FILE.json',
        help='score calibration to write')
    fit.add_argument(
        '--method',
        choices=list(SCORE_MAPS),
        default='isotonic',
        help='kind of map; all but histogram keep the order of the scores, '
        'and so AP (default: isotonic)')
    fit.add_argument(
        '--target',
        choices=list(TARGETS),
        default='precision',
        help='meaning of a calibrated score: precision lowers D-ECE, '
        'precision_x_iou LaECE (default: precision)')
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
    fit.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='classes of the data set (default: all categories of the '
        'annotations)')

    apply = commands.add_parser('apply', help='calibrate other results')
    apply.add_argument(
        'results',
        help='detections to calibrate: COCO results (.json), or the .pkl of '
        'tools/test.py --out')
    apply.add_argument('calibration', help='score calibration that fit wrote')
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
    ground_truth, detections, categories = read_annotations_and_results(
        args.ground_truth, args.results, args.classes)
    calibration = fit_score_calibration(ground_truth, detections, categories,
                                        args.method, args.target, args.iou_thr,
                                        args.classwise, score_thr)
    write_json_atomically(args.out, calibration.to_json_dict())
    print(f'fitted to {calibration.settings["detections"]} detections; '
          f'written: {args.out}')


def apply(args):
    calibration = ScoreCalibration.from_file(args.calibration)
    results = read_results(args.results,
                           [one.category_id for one in calibration.classes])
    with naming_file(args.results):
        calibrated = calibration.apply_to_records(results)
    # One line, as other tools write results: millions are slow.
    write_json_atomically(args.out, calibrated, indent=None)
    print(f'{len(calibrated)} of {len(results)} detections; '
          f'written: {args.out}')


def main():
    args = parse_args()
    make_output_folder(osp.dirname(osp.abspath(args.out)))
    dict(fit=fit, apply=apply)[args.command](args)


if __name__ == '__main__':
    with one_line_warnings():
        run_command(main)
