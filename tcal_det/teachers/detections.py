"""Collect the detections of a detector on annotated images."""
from typing import Dict, Iterable, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
import torch.nn as nn
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from mmengine.utils import ProgressBar
from torch import Tensor

from tcal_det.evaluation.functional import Detections, GroundTruth


class CollectedDetections(NamedTuple):
    """Objects, detections and image files of a dataset.

    Attributes:
        ground_truth (GroundTruth): Annotated objects; the image ids are the
            positions of the images in the dataset.
        detections (Detections): Detections on the same images and classes.
        image_files (dict[int, str]): Paths of the images by image id.
    """
    ground_truth: GroundTruth
    detections: Detections
    image_files: Dict[int, str]


def collect_detections(
        detector: nn.Module,
        dataloader: Iterable[dict],
        num_classes: int,
        class_names: Optional[Sequence[str]] = None) -> CollectedDetections:
    """Run a detector on all images of a dataloader.

    Works for every dataset type. Boxes are in the scale of the image files.

    Args:
        detector (nn.Module): Detector in evaluation mode.
        dataloader (Iterable[dict]): Dataloader from
            ``build_calibration_dataloader``.
        num_classes (int): Number of classes of the detector.
        class_names (Sequence[str], optional): Class names in the order of
            the labels. Defaults to None, the labels as names.

    Returns:
        CollectedDetections: Objects, detections and image files.
    """
    objects, found = _Boxes(), _Boxes()
    sizes, files = [], {}
    progress = ProgressBar(len(dataloader.dataset))
    with torch.no_grad():
        for data in dataloader:
            data = detector.data_preprocessor(data, False)
            for sample in detector.predict(
                    data['inputs'], data['data_samples'], rescale=True):
                image = len(sizes)
                scale = sample.get('scale_factor', (1.0, 1.0))
                objects.add(image, sample.gt_instances, False, scale)
                ignored = sample.get('ignored_instances')
                if ignored is not None:
                    objects.add(image, ignored, True, scale)
                found.add(image, sample.pred_instances,
                          sample.pred_instances.scores)
                sizes.append(sample.ori_shape[1::-1])
                if sample.get('img_path'):
                    files[image] = sample.img_path
            progress.update(len(data['data_samples']))
    print()
    names = class_names or range(num_classes)
    image_index, class_index, boxes, iscrowd = objects.arrays()
    ground_truth = GroundTruth(
        image_ids=np.arange(len(sizes)),
        image_sizes=np.reshape(np.array(sizes, dtype=np.float64), (-1, 2)),
        category_ids=np.arange(num_classes),
        category_names=tuple(map(str, names)),
        image_index=image_index,
        class_index=class_index,
        boxes=boxes,
        iscrowd=iscrowd.astype(bool))
    return CollectedDetections(ground_truth, Detections(*found.arrays()),
                               files)


class _Boxes:
    """Collector of boxes; each has a value, its score or its crowd flag."""

    def __init__(self) -> None:
        self.parts = []

    def add(
        self,
        image: int,
        instances: InstanceData,
        values: Union[Tensor, bool],
        scale: Sequence[float] = (1.0, 1.0)) -> None:
        boxes = get_box_tensor(instances.bboxes).cpu().numpy()
        boxes = boxes.astype(np.float64) / np.tile(scale, 2)
        boxes[:, 2:] -= boxes[:, :2]
        if torch.is_tensor(values):
            values = values.cpu().numpy()
        self.parts.append(
            (np.full(len(boxes), image), instances.labels.cpu().numpy(), boxes,
             np.broadcast_to(values, len(boxes)).astype(np.float64)))

    def arrays(self) -> tuple:
        return tuple(np.concatenate(column) for column in zip(*self.parts))
