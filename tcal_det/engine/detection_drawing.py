"""Draw the detections of several models beside the ground truth."""
from typing import List, Optional, Sequence, Tuple, Union

import mmcv
import numpy as np
import torch
import torch.nn as nn
from mmdet.apis import inference_detector
from mmdet.models.utils import samplelist_boxtype2tensor
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BaseInstanceMasks
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmengine.utils import track_iter_progress
from torch.nn.functional import interpolate

from tcal_det.models.class_names import (ClassNames, checkpoint_class_names,
                                         dataset_class_names)
from tcal_det.models.distillers.detector_files import (build_detector,
                                                       load_weights)

# The visualizer's text has a fixed size in pixels. On a smaller image it would
# hide the objects.
MIN_LONG_SIDE = 320
PIXEL_MASKS = ('gt_sem_seg', 'gt_panoptic_seg', 'pred_sem_seg',
               'pred_panoptic_seg')


def draw_detections(models: Sequence[Tuple[Config, str]],
                    num_images: int = 4,
                    score_thr: float = 0.5,
                    device: str = 'cpu',
                    with_masks: bool = True,
                    allow_partial: bool = False) -> List[List[np.ndarray]]:
    """Draw ground truth and detections on the first model's test images.

    Args:
        models (Sequence[tuple[Config, str]]): Config and checkpoint (path or
            URL) of each model.
        num_images (int): Number of images, counted from the first. Defaults
            to 4.
        score_thr (float): Score threshold; detections with a score up to it
            are left out. Defaults to 0.5.
        device (str): Device of the models. Defaults to 'cpu'.
        with_masks (bool): Whether masks are drawn as well. Defaults to
            True.
        allow_partial (bool): Whether the weights of a checkpoint and its
            model may differ. Defaults to False.

    Returns:
        list[list[ndarray]]: For each image, the drawn ground truth and the
        drawn detections of each model: RGB, uint8, shape (H, W, 3). Small
        images are enlarged.

    Raises:
        MissingFileError: If a checkpoint does not exist.
        InvalidValueError: If a checkpoint cannot be read or is of another
            model.
    """
    cfg = models[0][0]
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    detectors = [
        _load_detector(model_cfg, checkpoint, device, allow_partial)
        for model_cfg, checkpoint in models
    ]
    drawer = DetectionDrawer(dataset.metainfo, score_thr, with_masks)
    rows = []
    for index in track_iter_progress(
            list(range(min(num_images, len(dataset))))):
        truth = dataset[index]['data_samples']
        # The visualizer needs tensors, but the dataset returns box objects.
        samplelist_boxtype2tensor([truth])
        image = mmcv.imread(truth.img_path, channel_order='rgb')
        rows.append([drawer.ground_truth(image, truth)] + [
            drawer.detections(
                image, inference_detector(detector, truth.img_path), names)
            for detector, names in detectors
        ])
    return rows


def _load_detector(
        cfg: Config, checkpoint: str, device: str,
        allow_partial: bool) -> Tuple[nn.Module, Optional[ClassNames]]:
    """Build a detector, load its weights, and return its class names.

    Replaces mmdet's ``init_detector``, which runs code that a checkpoint
    contains, and leaves weights that the checkpoint lacks at random values.
    The class names are None if the checkpoint does not name them.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    detector = revert_sync_batchnorm(build_detector(cfg))
    content = load_weights(
        detector, checkpoint, role='detector', allow_partial=allow_partial)
    # The attribute that `inference_detector` reads.
    detector.cfg = cfg
    return detector.to(device).eval(), checkpoint_class_names(content)


class DetectionDrawer:
    """Drawer of boxes and masks with one colour per class name.

    Args:
        metainfo (dict): Meta information of the dataset.
        score_thr (float): Score threshold; detections with a score up to it
            are left out.
        with_masks (bool): Whether masks are drawn as well.
    """

    def __init__(self, metainfo: dict, score_thr: float,
                 with_masks: bool) -> None:
        self.metainfo = metainfo
        self.score_thr = score_thr
        self.with_masks = with_masks
        self.visualizer = DetLocalVisualizer()

    def ground_truth(self, image: np.ndarray,
                     sample: DetDataSample) -> np.ndarray:
        """Draw the annotations of an image.

        Args:
            image (ndarray): Image, RGB, uint8, shape (H, W, 3).
            sample (DetDataSample): Annotations of the image.

        Returns:
            ndarray: Image with boxes, RGB, uint8, shape (H', W', 3). It is
            enlarged if its longer side has less than 320 pixels.
        """
        return self._draw(image, sample, None, draw_pred=False)

    def detections(self, image: np.ndarray, sample: DetDataSample,
                   names: Optional[ClassNames]) -> np.ndarray:
        """Draw the detections on an image.

        Args:
            image (ndarray): Image, RGB, uint8, shape (H, W, 3).
            sample (DetDataSample): Detections on the image.
            names (tuple[str, ...], optional): Class names of the detector;
                None for the names of the dataset.

        Returns:
            ndarray: Image with boxes, enlarged as that of the ground truth.
        """
        names = names or dataset_class_names(self.metainfo) or ()
        labels = sample.pred_instances.labels
        if len(labels) and labels.max() >= len(names):
            names += tuple(
                f'class {label}'
                for label in range(len(names),
                                   int(labels.max()) + 1))
        return self._draw(image, sample, names, draw_gt=False)

    def _draw(self, image: np.ndarray, sample: DetDataSample,
              names: Optional[ClassNames], **options) -> np.ndarray:
        if not self.with_masks:
            sample = _without_masks(sample)
        factor = MIN_LONG_SIDE / max(image.shape[:2])
        if factor > 1:
            image = mmcv.imrescale(image, factor)
            sample = _enlarged(sample, image.shape[:2], factor)
        self.visualizer.dataset_meta = self._metainfo_of(names)
        self.visualizer.add_datasample(
            'comparison',
            image,
            sample,
            pred_score_thr=self.score_thr,
            **options)
        return self.visualizer.get_image()

    def _metainfo_of(self, names: Optional[ClassNames]) -> dict:
        """Combine a detector's class names with the dataset's colours."""
        known = dataset_class_names(self.metainfo) or ()
        names = known if names is None else names
        missing = [name for name in names if name not in known]
        colours = dict(
            zip((*known, *missing),
                get_palette('random',
                            len(known) + len(missing))))
        colours.update(zip(known, self.metainfo.get('palette') or ()))
        return dict(
            self.metainfo,
            # matplotlib would take text between dollar signs as a formula.
            classes=tuple(name.replace('$', r'\$') for name in names),
            palette=[colours[name] for name in names])


def _without_masks(sample: DetDataSample) -> DetDataSample:
    sample = sample.clone()
    for name in PIXEL_MASKS:
        if name in sample:
            delattr(sample, name)
    for name in ('gt_instances', 'pred_instances'):
        if name in sample and 'masks' in sample.get(name):
            instances = sample.get(name).clone()
            del instances.masks
            setattr(sample, name, instances)
    return sample


def _enlarged(sample: DetDataSample, shape: Tuple[int, int],
              factor: float) -> DetDataSample:
    """Copy a data sample for an image of another size.

    Args:
        sample (DetDataSample): Annotations or detections of the image.
        shape (tuple[int, int]): Height and width of the enlarged image.
        factor (float): New length over old length.
    """
    sample = sample.clone()
    for name in ('gt_instances', 'pred_instances'):
        if name in sample:
            instances = sample.get(name).clone()
            if 'bboxes' in instances:
                instances.bboxes = instances.bboxes * factor
            if 'masks' in instances:
                instances.masks = _resized(instances.masks, shape)
            setattr(sample, name, instances)
    for name in PIXEL_MASKS:
        if name in sample:
            labels = _resized(sample.get(name).sem_seg, shape)
            setattr(sample, name, PixelData(sem_seg=labels))
    return sample


def _resized(
    masks: Union[torch.Tensor, np.ndarray, BaseInstanceMasks],
    shape: Tuple[int, int],
) -> Union[torch.Tensor, BaseInstanceMasks]:
    """Resize masks, of shape (N, H, W) if they are pixels, to (H', W')."""
    if isinstance(masks, BaseInstanceMasks):
        return masks.resize(shape)
    pixels = torch.as_tensor(masks)
    resized = interpolate(pixels[None].float(), shape, mode='nearest')
    return resized[0].to(pixels.dtype)
