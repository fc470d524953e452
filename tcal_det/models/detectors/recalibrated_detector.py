"""Any mmdet detector, with recalibrated scores.

As for the distiller, ``model.type='tcal_det.RecalibratedDetector'``
builds a subclass of the detector's own class, so that parameter names,
checkpoints, exporters and hooks see the plain detector.
"""
from typing import Optional, Union

from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.errors import InvalidTypeError
from tcal_det.registry import MODELS
from ..configured_part import build_configured_part
from .detector_subclass import detector_subclass


class RecalibratedScoresMixin:
    """Gives a detector the option ``test_cfg.recalibrator``.

    To be inherited beside, and before, the detector's class. Training is
    not touched, and without the option neither is prediction.

    Args:
        test_cfg (dict, optional): The detector's own, with
            ``recalibrator`` or not. Defaults to None.
        **detector: The detector's other arguments.
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

    def predict(self,
                batch_inputs: Tensor,
                batch_data_samples: SampleList,
                rescale: bool = True) -> SampleList:
        """The detector's predictions, with recalibrated scores.

        Args:
            batch_inputs (Tensor): Images, shape (N, 3, H, W).
            batch_data_samples (list[DetDataSample]): Their meta data.
            rescale (bool): Whether boxes refer to the original images.
                Defaults to True.

        Returns:
            list[DetDataSample]: With ``pred_instances``.
        """
        samples = super().predict(
            batch_inputs, batch_data_samples, rescale=rescale)
        if self._recalibrator is not None:
            for sample in samples:
                sample.pred_instances = self._recalibrator(
                    sample.pred_instances)
        return samples


@MODELS.register_module()
class RecalibratedDetector(RecalibratedScoresMixin):
    """A plain mmdet detector that returns recalibrated scores.

    Detections are those of the detector: NMS, its ``score_thr`` and
    ``max_per_img`` see the original scores. Fit the map to what the
    plain detector returns: ``tools/test.py --out`` on held-out images, then
    ``tcal-recalibrate fit``.

    Args:
        detector_type (str | type): What ``model.type`` was, e.g.
            'FasterRCNN'; all further arguments are the detector's own.
        **detector: The detector's arguments. ``test_cfg.recalibrator``
            is ``dict(load_from='RECALIBRATION.json')``, or None for none.

    Raises:
        InvalidTypeError, InvalidValueError, MissingFileError: If an
            argument is wrong.

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
        super().__init__(**detector)
