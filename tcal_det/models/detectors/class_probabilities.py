"""Predictions of any mmdet detector with the probabilities of all classes."""
import threading
from typing import Any, Callable, MutableMapping
from weakref import WeakKeyDictionary

import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError
from .detector_subclass import detector_name
from .kept_rows import kept_rows
from .replaced_methods import methods_replaced

SEE = 'see docs/class_probabilities.md'
# Of each detector, as its methods are replaced for one prediction. They are
# not its attributes: a lock can neither be copied nor pickled.
_LOCKS: MutableMapping[nn.Module, Any] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def wants_class_probabilities(detector: nn.Module, option: Any) -> bool:
    """Check the option ``test_cfg.class_probabilities``.

    Args:
        detector (nn.Module): Whose option it is.
        option (Any): What the user gave.

    Returns:
        bool: The option.

    Raises:
        InvalidTypeError: If it is no boolean, or the detector's head chooses
            its detections in a way that cannot be followed.
    """
    if not isinstance(option, bool):
        raise InvalidTypeError(
            '`test_cfg.class_probabilities` must be True or False, but got '
            f'{shortened(option)}')
    rows = kept_rows(detector) if option else None
    if isinstance(rows, str):
        raise InvalidTypeError(
            '`test_cfg.class_probabilities` must be False, as '
            f'{detector_name(detector)} {rows}; {SEE}')
    return option


def predict_with_class_probabilities(detector: nn.Module,
                                     predict: Callable[..., SampleList],
                                     images: Tensor, data_samples: SampleList,
                                     rescale: bool) -> SampleList:
    """Predict as ever, and keep the probabilities of all classes.

    Args:
        detector (nn.Module): One that :func:`wants_class_probabilities`.
        predict (Callable): Its method.
        images (Tensor): Shape (N, 3, H, W).
        data_samples (list[DetDataSample]): Their meta data.
        rescale (bool): Whether boxes refer to the original images.

    Returns:
        list[DetDataSample]: What ``predict`` returns, with
        ``pred_instances.class_probs``: shape (D, K + 1), background last, of
        a softmax head, and (D, K) of a sigmoid head, in the type of the
        head's scores.
    """
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(detector, threading.RLock())
    with lock:
        rows = kept_rows(detector)
        with methods_replaced(rows.replacements):
            results = predict(images, data_samples, rescale=rescale)
    for result in results:
        found = result.pred_instances
        # mmdet has a way of its own for a batch without proposals.
        if 'class_probs' not in found and len(found) == 0:
            found.class_probs = found.scores.new_zeros(0, rows.num_columns)
        if 'class_probs' not in found:
            raise InvalidTypeError(
                '`test_cfg.class_probabilities` must be False, as '
                f'{detector_name(detector)} makes new detections of those '
                f'that its head returns; {SEE}')
    return results
