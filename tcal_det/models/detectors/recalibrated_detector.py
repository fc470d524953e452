"""An mmdet detector of any kind with recalibrated scores.

As for the distiller, ``model.type='tcal_det.RecalibratedDetector'`` builds a
subclass of the detector's own class. Parameter names and checkpoints are
therefore those of the plain detector, and exporters and hooks treat it as the
plain detector.
"""
from functools import partial
from typing import Optional, Union

from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from ..configured_part import build_configured_part
from .class_probabilities import (check_class_probabilities,
                                  predict_with_class_probabilities)
from .detector_subclass import detector_subclass, explain_unknown_key

# Keys of `test_cfg` that only a detector with the mixin reads.
TEST_OPTIONS = ('recalibrator', 'class_probabilities')


class RecalibratedScoresMixin:
    """Mixin that adds options to the ``test_cfg`` of a detector.

    The option ``recalibrator`` recalibrates the scores. The option
    ``class_probabilities=True`` adds the field ``class_probs`` to
    ``pred_instances``: the head's own probabilities of all classes, which are
    not recalibrated. A subclass must list the mixin before the detector's
    class. Training does not change; without the options, prediction does not
    change either.

    Args:
        test_cfg (dict, optional): Test settings of the detector, with or
            without these options. Defaults to None.
        **detector (Any): Other arguments of the detector.
    """

    def __init__(self, test_cfg: Optional[dict] = None, **detector) -> None:
        super().__init__(test_cfg=test_cfg, **detector)
        self._recalibrator = None
        cfg = (test_cfg or {}).get('recalibrator')
        if cfg is not None:
            if not isinstance(cfg, dict):
                raise InvalidTypeError(
                    '`test_cfg.recalibrator` must be '
                    "dict(load_from='RECALIBRATION.json'), but got "
                    f'{cfg!r}')
            self._recalibrator = build_configured_part(
                'test_cfg.recalibrator',
                dict(dict(type='ScoreRecalibrator'), **cfg))
        self._adds_class_probs = check_class_probabilities(
            self, (test_cfg or {}).get('class_probabilities', False))

    def predict(self,
                batch_inputs: Tensor,
                batch_data_samples: SampleList,
                rescale: bool = True) -> SampleList:
        """Predict detections, with recalibrated scores.

        Args:
            batch_inputs (Tensor): Images, shape (N, 3, H, W).
            batch_data_samples (list[DetDataSample]): Data samples of the
                images, with meta information.
            rescale (bool): Whether boxes refer to the original images.
                Defaults to True.

        Returns:
            list[DetDataSample]: Data samples with ``pred_instances``.
        """
        predict = super().predict
        if self._adds_class_probs:
            predict = partial(predict_with_class_probabilities, self, predict)
        samples = predict(batch_inputs, batch_data_samples, rescale=rescale)
        if self._recalibrator is not None:
            for sample in samples:
                height, width = (sample.ori_shape
                                 if rescale else sample.img_shape)[:2]
                sample.pred_instances = self._recalibrator(
                    sample.pred_instances, (width, height))
        return samples


@MODELS.register_module()
class RecalibratedDetector(RecalibratedScoresMixin):
    """A plain mmdet detector that returns recalibrated scores.

    The choice of the detections does not change, because NMS, ``score_thr``
    and ``max_per_img`` use the original scores. Fit the recalibration to the
    detections of the plain detector: run ``tools/test.py --out`` on held-out
    images, then ``tcal-recalibrate fit``.

    Args:
        detector_type (str | type): Type of the detector, the former
            ``model.type``, e.g. 'FasterRCNN'. All other arguments are those
            of the detector.
        **detector (Any): Arguments of the detector.
            ``test_cfg.recalibrator`` is
            ``dict(load_from='RECALIBRATION.json')``, or None for raw scores.
            ``test_cfg.class_probabilities`` is True to add the probabilities
            of all classes, ``class_probs``, to ``pred_instances``.

    Raises:
        InvalidTypeError: If an argument has a wrong type, or the detector
            cannot give class probabilities.
        InvalidValueError: If ``detector_type`` is not a detector, or the file
            cannot be read.
        MissingFileError: If the file does not exist.

    Example:
        >>> _base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
        >>> model = dict(
        ...     type='tcal_det.RecalibratedDetector',
        ...     detector_type='RetinaNet',
        ...     test_cfg=dict(
        ...         recalibrator=dict(load_from='recalibration.json')))
    """

    def __new__(cls, *args, **kwargs):
        if cls is RecalibratedDetector:
            cls = detector_subclass(cls, 'detector_type',
                                    kwargs.get('detector_type'))
        return super().__new__(cls)

    def __init__(self, detector_type: Union[str, type], **detector) -> None:
        try:
            super().__init__(**detector)
        except TypeError as error:
            explain_unknown_key(error, type(self), detector, ['detector_type'])
            raise


def check_test_options(model: dict) -> None:
    """Refuse options of the mixin in the config of a detector without it.

    mmdet ignores unknown keys of ``test_cfg``.

    Args:
        model (dict): Config of the model.

    Raises:
        InvalidTypeError: If ``test_cfg`` is not a dict.
        InvalidValueError: If the model would ignore an option.
    """
    test_cfg = model.get('test_cfg')
    if test_cfg is not None and not isinstance(test_cfg, dict):
        raise InvalidTypeError(
            f'`model.test_cfg` must be a dict, but got {test_cfg!r}')
    given = [option for option in TEST_OPTIONS if (test_cfg or {}).get(option)]
    if not given:
        return
    kind = model.get('type')
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(cls, type) or not issubclass(cls,
                                                   RecalibratedScoresMixin):
        raise InvalidValueError(
            f'`model.test_cfg.{given[0]}` must be in a model of the type '
            "'tcal_det.RecalibratedDetector' or "
            f"'tcal_det.CalibratedTeacherDistiller', but {kind!r} ignores "
            "it: set model.type='tcal_det.RecalibratedDetector' and "
            f'model.detector_type={kind!r}')
