"""Recalibration of the scores as the last step of a detector."""
import torch
from mmengine.structures import InstanceData

from tcal_det.errors import InvalidTypeError
from tcal_det.recalibration import Recalibration
from tcal_det.registry import MODELS


@MODELS.register_module()
class ScoreRecalibrator:
    """Recalibrates scores of detections; drops those under a threshold.

    No parameters that are trained or saved with the model: the file is the
    one place where they live.

    Args:
        load_from (str): JSON file of ``tcal-recalibrate fit``; read at
            once.

    Raises:
        InvalidTypeError: If ``load_from`` is no path.
        MissingFileError, InvalidValueError: If the file cannot be read.
    """

    def __init__(self, load_from: str) -> None:
        if not isinstance(load_from, str):
            raise InvalidTypeError(
                '`load_from` must be the path of a JSON file of '
                f'`tcal-recalibrate fit`, but got {load_from!r}')
        self.recalibration = Recalibration.from_file(load_from)

    def __call__(self, instances: InstanceData) -> InstanceData:
        """Recalibrate the detections of one image.

        Args:
            instances (InstanceData): With ``scores`` and ``labels``; not
                changed.

        Returns:
            InstanceData: In the same order, with scores of the same type
            and device.
        """
        scores, labels = instances.scores, instances.labels
        recalibrated, is_kept = self.recalibration.recalibrate(
            scores.detach().cpu().double().numpy(),
            labels.cpu().numpy())
        result = instances.clone()
        result.scores = torch.from_numpy(recalibrated).to(scores)
        return result[torch.from_numpy(is_kept).to(labels.device)]
