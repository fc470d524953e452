"""Recalibration of the scores as the last step of a detector."""
from typing import Tuple

import numpy as np
import torch
from mmdet.structures.bbox import get_box_tensor
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

    def __call__(self, instances: InstanceData,
                 image_size: Tuple[int, int]) -> InstanceData:
        """Recalibrate the detections of one image.

        Args:
            instances (InstanceData): With ``bboxes``, ``scores`` and
                ``labels``; not changed.
            image_size (tuple[int, int]): Width and height of the image that
                the boxes refer to, for maps that depend on the size.

        Returns:
            InstanceData: In the same order, with scores of the same type
            and device.
        """
        scores, labels = instances.scores, instances.labels
        boxes = get_box_tensor(instances.bboxes).detach().cpu().double()
        sides = (boxes[:, 2:] - boxes[:, :2]).numpy()
        # At most the image: rounding may put a corner beside it.
        areas = np.minimum(sides / image_size, 1).clip(0).prod(axis=1)
        recalibrated, is_kept = self.recalibration.recalibrate(
            scores.detach().cpu().double().numpy(),
            labels.cpu().numpy(), areas)
        result = instances.clone()
        result.scores = torch.from_numpy(recalibrated).to(scores)
        return result[torch.from_numpy(is_kept).to(labels.device)]
