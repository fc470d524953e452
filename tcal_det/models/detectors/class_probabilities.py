"""Predictions of an mmdet detector with the probabilities of all classes."""
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

SEE = 'see docs/how_to/class_probabilities.md'
# One lock for each detector, because its methods are replaced during a
# prediction. The locks are not attributes of the detectors, because a lock
# can be neither copied nor pickled.
_LOCKS: MutableMapping[nn.Module, Any] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def check_class_probabilities(detector: nn.Module, option: Any) -> bool:
    """Check the option ``test_cfg.class_probabilities``.

    Args:
        detector (nn.Module): Detector to which the option belongs.
        option (Any): Value of the option.

    Returns:
        bool: Value of the option.

    Raises:
        InvalidTypeError: If the option is not a boolean, or it is True and
            the detector cannot give class probabilities.
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
    """Run a prediction, and add the probabilities of all classes.

    Args:
        detector (nn.Module): Detector for which
            :func:`check_class_probabilities` raised no error.
        predict (callable): Method of the detector that predicts.
        images (Tensor): Images, shape (N, 3, H, W).
        data_samples (list[DetDataSample]): Data samples of the images, with
            meta information.
        rescale (bool): Whether boxes refer to the original images.

    Returns:
        list[DetDataSample]: Return value of ``predict``, with
        ``pred_instances.class_probs`` in the dtype of the head's scores:
        shape (D, K + 1) with background last for a softmax head, shape (D, K)
        for a sigmoid head.

    Raises:
        InvalidTypeError: If the detector changes the detections of its head.
    """
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(detector, threading.RLock())
    with lock:
        rows = kept_rows(detector)
        with methods_replaced(rows.replacements):
            results = predict(images, data_samples, rescale=rescale)
    for result in results:
        found = result.pred_instances
        # mmdet does not call the replaced methods if no proposal exists.
        if 'class_probs' not in found and len(found) == 0:
            found.class_probs = found.scores.new_zeros(0, rows.num_columns)
        if 'class_probs' not in found:
            raise InvalidTypeError(
                '`test_cfg.class_probabilities` must be False, as '
                f'{detector_name(detector)} makes new detections from those '
                f'of its head; {SEE}')
    return results
