"""Arguments that several commands share."""
import argparse
from dataclasses import fields
from typing import Any, Dict

from tcal_det.evaluation.functional import EvaluationOptions

# Words for numbers in `--help`, by the end of the option's name.
_METAVARS = dict(iou_thr='IOU', bins='NUM', dets='NUM', samples='NUM')


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
