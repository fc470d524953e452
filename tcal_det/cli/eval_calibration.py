"""Measure the calibration and AP of any COCO results file.

tcal-eval GT.json RESULTS.json --out FILE.json [--plot DIR]
"""
import argparse
import os.path as osp

from tcal_det.commands import one_line_warnings, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.file_evaluation import evaluate_files
from tcal_det.fileio import make_output_folder, write_json_atomically
from tcal_det.recalibration import Recalibration

OPTIONS = ('score_thr', 'd_ece_iou_thr', 'd_ece_bins', 'laece_iou_thr',
           'laece_bins', 'olrp_iou_thr', 'max_dets', 'zero_iou')


def parse_args():
    parser = argparse.ArgumentParser(
        description='Calibration and AP of detections, from files')
    parser.add_argument('ground_truth', help='COCO annotations, JSON')
    parser.add_argument(
        'results',
        help='COCO results, JSON, of any framework; or the .pkl that '
        'tools/test.py --out wrote')
    parser.add_argument('--out', required=True, help='JSON file to write')
    parser.add_argument(
        '--plot',
        metavar='DIR',
        help='folder for figures (default: none are drawn)')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='names of the categories to evaluate; of a pickle, the classes '
        'of the data set that it was made with (default: all categories)')
    parser.add_argument(
        '--score-thr',
        default='none',
        help='lowest score of the detections that count, for all figures but '
        "AP: 'none', a number, 'lrp_optimal' (of these very results), or "
        'the thresholds in a file of `tcal-recalibrate fit` (default: none)')
    parser.add_argument(
        '--d-ece-iou-thr',
        type=float,
        default=0.5,
        metavar='IOU',
        help='IoU threshold of D-ECE, Brier score and NLL, in [0, 1) '
        '(default: 0.5)')
    parser.add_argument(
        '--d-ece-bins',
        type=int,
        default=10,
        metavar='NUM',
        help='number of score bins of D-ECE, 1 to 1000 (default: 10)')
    parser.add_argument(
        '--laece-iou-thr',
        type=float,
        default=0.1,
        metavar='IOU',
        help='IoU threshold of LaECE, in [0, 1) (default: 0.1)')
    parser.add_argument(
        '--laece-bins',
        type=int,
        default=25,
        metavar='NUM',
        help='number of score bins of LaECE and LaECE_0, 1 to 1000 '
        '(default: 25)')
    parser.add_argument(
        '--olrp-iou-thr',
        type=float,
        default=0.5,
        metavar='IOU',
        help='IoU threshold of oLRP, in [0, 1) (default: 0.5)')
    parser.add_argument(
        '--max-dets',
        type=int,
        default=100,
        metavar='NUM',
        help='number of detections per image and class that count, best '
        'scores first (default: 100)')
    parser.add_argument(
        '--zero-iou',
        choices=['reject', 'accept'],
        default='reject',
        help='rule for disjoint boxes at IoU threshold 0: accept matches '
        'them, as published LaECE_0 figures do (default: reject)')
    return parser.parse_args()


def as_score_thr(text):
    if text == 'none':
        return None
    if text.endswith('.json'):
        return Recalibration.from_file(text).score_thresholds
    try:
        return float(text)
    except ValueError:
        if text == 'lrp_optimal':
            return text
        raise InvalidValueError(
            "`--score-thr` must be 'none', 'lrp_optimal', a number in [0, 1] "
            f'or a .json file, but got {text!r}') from None


def evaluate(args):
    args.score_thr = as_score_thr(args.score_thr)
    make_output_folder(osp.dirname(osp.abspath(args.out)))
    evaluation = evaluate_files(
        args.ground_truth, args.results, args.classes,
        **{name: getattr(args, name)
           for name in OPTIONS})
    write_json_atomically(args.out, evaluation.to_dict())
    print(evaluation.table())
    print(f'written: {args.out}')
    if args.plot is not None:
        # matplotlib is slow to import.
        from tcal_det.visualization.detection_report import \
            write_detection_figures
        for path in write_detection_figures(evaluation.report, args.plot):
            print(f'written: {path}')


def main():
    """Run ``tcal-eval``."""
    with one_line_warnings():
        run_command(lambda: evaluate(parse_args()))
