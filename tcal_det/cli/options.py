"""Arguments that several commands share."""
import argparse
from dataclasses import fields
from typing import Any, Dict, Optional

from tcal_det.evaluation.functional import EvaluationOptions

# Words for numbers in `--help`, by the end of the option's name.
_METAVARS = dict(iou_thr='IOU', bins='NUM', dets='NUM', samples='NUM')


def add_input_arguments(parser: argparse.ArgumentParser,
                        nargs: Optional[str] = None) -> None:
    """Give a command ``ground_truth``, ``results`` and what reads them.

    Args:
        parser (ArgumentParser): Gets the arguments.
        nargs (str, optional): '+' for several results. Defaults to None,
            one.
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
        'YOLO labels need it (default: sizes of the annotations)')
    parser.add_argument(
        '--names',
        metavar='FILE',
        help='classes.txt or data.yaml with the class names of YOLO labels '
        '(default: one that lies beside the labels)')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='names of the categories to evaluate; of a pickle, the classes '
        'of the data set that it was made with (default: all categories)')


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Give a command an argument for each field of EvaluationOptions.

    All but ``score_thr``, which a command may also read from a file.

    Args:
        parser (ArgumentParser): Gets the arguments.
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
    """The options among parsed arguments, by name.

    Args:
        args (Namespace): Of a parser that :func:`add_evaluation_options`
            has extended, and with ``score_thr``.
    """
    return {
        option.name: getattr(args, option.name)
        for option in fields(EvaluationOptions)
    }
