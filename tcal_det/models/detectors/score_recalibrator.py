"""Recalibration of scores as the last step of a detector."""
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
    """Recalibrate scores of detections, and drop those under a threshold.

    The parameters are stored only in the file. They are neither trained nor
    saved with the model.

    Args:
        load_from (str): Path to a JSON file of ``tcal-recalibrate fit``,
            which is read at once.

    Raises:
        InvalidTypeError: If ``load_from`` is not a path.
        MissingFileError: If the file does not exist.
        InvalidValueError: If the file cannot be read.
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
            instances (InstanceData): Detections with ``bboxes``, ``scores``
                and ``labels``; not changed.
            image_size (tuple[int, int]): Width and height, in pixels, of the
                image to which the boxes refer, for maps that depend on the
                size of a box.

        Returns:
            InstanceData: Remaining detections in the same order, with scores
            of the same dtype and device.
        """
        scores, labels = instances.scores, instances.labels
        boxes = get_box_tensor(instances.bboxes).detach().cpu().double()
        sides = (boxes[:, 2:] - boxes[:, :2]).numpy()
        # At most the image size, as rounding may put a corner outside.
        areas = np.minimum(sides / image_size, 1).clip(0).prod(axis=1)
        recalibrated, is_kept = self.recalibration.recalibrate(
            scores.detach().cpu().double().numpy(),
            labels.cpu().numpy(), areas)
        result = instances.clone()
        result.scores = torch.from_numpy(recalibrated).to(scores)
        return result[torch.from_numpy(is_kept).to(labels.device)]
