"""Weights of several teachers in their mixture."""
import json
import math
from collections.abc import Mapping
from typing import Any, Dict, Iterable, Union

from tcal_det.checks import check_non_negative, shortened
from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)

NLL = 'nll'
Weights = Union[None, str, Dict[str, float]]


def check_weights(weights: Weights, names: Iterable[str]) -> Weights:
    """Check the weights of all teachers in a config.

    Args:
        weights (dict[str, float] | str, optional): Weights by the teacher's
            name, or 'nll'; None for equal weights.
        names (iterable[str]): Names of the teachers.

    Returns:
        dict[str, float] | str: Weights of all teachers by name, or 'nll'.

    Raises:
        InvalidTypeError: If ``weights`` or a weight has a wrong type.
        InvalidValueError: If the names are not those of the teachers, a
            weight is negative, or all weights are 0.
    """
    names = list(names)
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if isinstance(weights, str) and weights == NLL:
        return NLL
    if not isinstance(weights, Mapping):
        raise InvalidTypeError(
            "`teacher.weights` must be 'nll' or a dict of weights by the "
            f"teachers' names {names}, but got {shortened(weights)}")
    if set(weights) != set(names):
        raise InvalidValueError(
            '`teacher.weights` must have a weight for each of the teachers '
            f'{names} (0 for one that is not to be mixed), but has '
            f'{list(weights)}')
    checked = {
        name: check_non_negative(f'teacher.weights.{name}', weights[name])
        for name in names
    }
    if not any(checked.values()):
        raise InvalidValueError(
            '`teacher.weights` must have a weight > 0, but all are 0')
    return checked


def weights_by_likelihood(calibrators: Dict[str, Any]) -> Dict[str, float]:
    r"""Compute weights :math:`\exp(-\mathrm{NLL})` of calibrated teachers.

    :math:`\exp(-\mathrm{NLL})` is the geometric mean of the probabilities of
    the correct classes. It is measured on held-out images that were not used
    to fit the calibrator.

    Args:
        calibrators (dict[str, dict]): Config of each teacher's calibrator, by
            the teacher's name; with the key ``load_from``.

    Returns:
        dict[str, float]: Weights by the teacher's name, with sum 1.

    Raises:
        MissingFileError: If a file does not exist.
        InvalidValueError: If a calibrator has no file, a file cannot be read
            or has no NLL, or the files differ in their images or kind of
            head.
    """
    figures, images = {}, {}
    for name, cfg in calibrators.items():
        path = cfg.get('load_from') if isinstance(cfg, Mapping) else None
        if path is None:
            raise InvalidValueError(
                "`teacher.weights='nll'` needs a `calibrator` with "
                f'`load_from` of each teacher, but {name!r} has none: write '
                'the file with tools/calibrate_teacher.py, or give weights')
        figures[name], images[name] = _read_nll(name, path)
    if len(set(images.values())) > 1:
        raise InvalidValueError(
            "`teacher.weights='nll'` needs NLLs of the same images and the "
            f'same kind of samples, but got {images}: calibrate all teachers '
            'on one split, or give weights')
    least = min(figures.values())
    weights = {name: math.exp(least - nll) for name, nll in figures.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _read_nll(name: str, path: str) -> tuple:
    """Read the NLL from a file, and the images that it was measured on."""
    source = f'`teacher.{name}.calibrator.load_from` {path!r}'
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise MissingFileError(f'{source} does not exist: write it with '
                               'tools/calibrate_teacher.py') from None
    except (OSError, ValueError) as error:
        raise InvalidValueError(f'{source} cannot be read: {error}') from None
    try:
        # Both kinds of files have the NLL of all samples.
        nll = float(content['after']['all']['nll'])
        images = (tuple(content['data']['ann_files']),
                  content['data']['num_images'],
                  content['calibrator'].get('activation', 'softmax'))
    except (KeyError, TypeError, ValueError, AttributeError):
        nll = math.nan
    if not math.isfinite(nll):
        raise InvalidValueError(
            f'{source} must hold the NLL of calibrated samples '
            '(`after.all.nll`) and their images, but does not: write it with '
            'tools/calibrate_teacher.py')
    return nll, images
