"""Measure the calibration and AP of any COCO results file.

tcal-eval GROUND_TRUTH RESULTS --out FILE.json [--plot DIR]
"""
import os.path as osp

from tcal_det.commands import CommandParser, one_line_warnings, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.class_probabilities import (
    evaluate_class_probabilities, write_results_with_class_probabilities)
from tcal_det.evaluation.file_evaluation import evaluate_files
from tcal_det.fileio import make_output_folder, write_json_atomically
from tcal_det.recalibration import Recalibration
from .options import (add_evaluation_options, add_input_arguments,
                      evaluation_options)


def parse_args():
    parser = CommandParser(
        description=
        'Calibration and AP of detections, from files of any framework')
    add_input_arguments(parser)
    parser.add_argument('--out', required=True, help='JSON file to write')
    parser.add_argument(
        '--plot',
        metavar='DIR',
        help='folder for figures (default: none are drawn)')
    parser.add_argument(
        '--score-thr',
        default='none',
        help='lowest score of the detections that count, for all figures but '
        "AP and OCE: 'none', a number, 'lrp_optimal' (chosen for these "
        'results), or a file of `tcal-recalibrate fit` with thresholds '
        '(default: none)')
    add_evaluation_options(parser)
    parser.add_argument(
        '--class-probabilities',
        action='store_true',
        help='measure the probabilities of all classes too: `class_probs` of '
        'a .pkl, `scores` lists of a .json (default: not measured)')
    parser.add_argument(
        '--write-scores',
        metavar='FILE.json',
        help='COCO results to write from a .pkl, with the probabilities of '
        'all classes as `scores` lists (default: not written)')
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
    evaluation = evaluate_files(args.ground_truth, args.results, args.classes,
                                args.images, args.names,
                                **evaluation_options(args))
    content, lines = evaluation.to_dict(), [evaluation.report.table()]
    files = (args.ground_truth, args.results)
    if args.class_probabilities:
        of_classes = evaluate_class_probabilities(*files, args.classes)
        content['class_probabilities'] = of_classes.to_dict()
        lines.append(of_classes.table())
    write_json_atomically(args.out, content)
    print('\n'.join(lines))
    print(f'written: {args.out}')
    if args.write_scores is not None:
        write_results_with_class_probabilities(*files, args.write_scores,
                                               args.classes)
        print(f'written: {args.write_scores}')
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
