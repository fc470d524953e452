"""Arguments that several commands share."""
import argparse
from dataclasses import fields
from typing import Any, Dict, Optional

from tcal_det.evaluation.functional import EvaluationOptions

# Placeholders of numbers in `--help`, by the end of the option's name.
_METAVARS = dict(iou_thr='IOU', bins='NUM', dets='NUM', samples='NUM')


def add_input_arguments(parser: argparse.ArgumentParser,
                        nargs: Optional[str] = None) -> None:
    """Add ``ground_truth``, ``results`` and the options for reading them.

    Args:
        parser (ArgumentParser): Parser of a command; changed in place.
        nargs (str, optional): '+' for several results files. Defaults to
            None, one file.
    """
    parser.add_argument(
        'ground_truth',
        help='COCO annotations (.json), a YOLO label folder, or a folder of '
        'Pascal VOC XML')
    parser.add_argument(
        'results',
        nargs=nargs,
        help='COCO results (.json), the .pkl of tools/test.py --out, a YOLO '
        'label folder with confidences, or a folder of VOC results')
    parser.add_argument(
        '--images',
        metavar='PATH',
        help='folder of the images, or a JSON or CSV file of their sizes; '
        'required for YOLO labels (default: the sizes in the annotations)')
    parser.add_argument(
        '--names',
        metavar='FILE',
        help='classes.txt or data.yaml with the class names of YOLO labels '
        '(default: such a file next to the labels)')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='names of the categories to evaluate; for a .pkl, the classes '
        'of the data set that it was made with (default: all categories)')


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add an argument for each field of EvaluationOptions.

    ``score_thr`` is not added, because a command can also read it from a
    file.

    Args:
        parser (ArgumentParser): Parser of a command; changed in place.
    """
    for option in fields(EvaluationOptions):
        if option.name == 'score_thr':
            continue
        explanation = option.metadata['explanation']
        settings = dict(
            default=option.default,
            help=f'{explanation} (default: {option.default})')
        if isinstance(option.default, str):
            settings['choices'] = option.metadata['args'][0]
        else:
            settings['type'] = type(option.default)
            settings['metavar'] = next(word for end, word in _METAVARS.items()
                                       if option.name.endswith(end))
        parser.add_argument(f'--{option.name.replace("_", "-")}', **settings)


def evaluation_options(args: argparse.Namespace) -> Dict[str, Any]:
    """Evaluation options among the parsed arguments.

    Args:
        args (Namespace): Arguments of a parser with
            :func:`add_evaluation_options`, and ``score_thr``.

    Returns:
        dict[str, Any]: Values by the name of the option.
    """
    return {
        option.name: getattr(args, option.name)
        for option in fields(EvaluationOptions)
    }
