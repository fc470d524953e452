"""Dataloader of the images on which a detector is measured."""
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset, Subset

from tcal_det.dataset_files import innermost_datasets
from tcal_det.errors import InvalidValueError
from tcal_det.teachers.sources import build_calibration_dataloader
from .corruption import ImageCorruption


def build_images(
        cfg: Config,
        split: str = 'test',
        max_images: Optional[int] = None,
        seed: int = 0,
        for_losses: bool = False) -> Tuple[DataLoader, ImageCorruption]:
    """Build the test dataloader of a split, with annotations.

    Args:
        cfg (Config): Detector config with dataloaders.
        split (str): Name of the split: 'test', 'val' or 'train'. Defaults to
            'test'.
        max_images (int, optional): Maximum number of images. From a larger
            split this number is drawn without replacement; the order is kept.
            Defaults to None, all images.
        seed (int): Random seed of the drawn images and of the corruptions.
            Defaults to 0.
        for_losses (bool): Whether to load masks too, if the training pipeline
            loads them. Defaults to False.

    Returns:
        tuple[DataLoader, ImageCorruption]: Dataloader of raw batches for the
        data preprocessor of the detector, and the transform that sets the
        corruption of its images, at first none.

    Raises:
        InvalidTypeError: If a part of the dataloader has the wrong type.
        InvalidValueError: If the config has no such dataloader, or a value
            is out of range.
        MissingFileError: If a file of the data set does not exist.
    """
    loader = build_calibration_dataloader(cfg, split)
    corruption = ImageCorruption(seed)
    needs_masks = for_losses and _trains_on_masks(cfg)
    for dataset in _innermost(loader.dataset):
        steps = dataset.pipeline.transforms
        for step in steps:
            if needs_masks and hasattr(step, 'with_mask'):
                step.with_mask = True
        steps.insert(1, corruption)
    num_images = len(loader.dataset)
    if max_images is None or max_images >= num_images:
        return loader, corruption
    chosen = np.random.default_rng(seed).choice(
        num_images, max_images, replace=False)
    subset = DataLoader(
        Subset(loader.dataset,
               np.sort(chosen).tolist()),
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory)
    return subset, corruption


def class_names(dataset: Dataset) -> Tuple[str, ...]:
    """Names of the classes, in the order of the labels.

    Args:
        dataset (Dataset): Data set of a dataloader from
            :func:`build_images`.

    Raises:
        InvalidValueError: If the data set does not have class names.
    """
    names = next(_innermost(dataset)).metainfo.get('classes')
    if not names:
        raise InvalidValueError(
            'the data set must have `metainfo.classes`, but names no '
            'classes: add metainfo=dict(classes=(...)) to the dataset of '
            'the split')
    return tuple(names)


def image_infos(dataset: Dataset) -> Iterator[dict]:
    """Data information of each image, without loading the images.

    Args:
        dataset (Dataset): Data set of a dataloader from
            :func:`build_images`.

    Yields:
        dict: Data information of one image.
    """
    if isinstance(dataset, Subset):
        for index in dataset.indices:
            yield dataset.dataset.get_data_info(index)
    else:
        for index in range(len(dataset)):
            yield dataset.get_data_info(index)


def _innermost(dataset: Any) -> Iterator[Any]:
    """Data sets with a pipeline, inside wrappers such as ConcatDataset."""
    if hasattr(dataset, 'pipeline'):
        yield dataset
    else:
        inner: List[Any] = getattr(dataset, 'datasets',
                                   None) or [dataset.dataset]
        for wrapped in inner:
            yield from _innermost(wrapped)


def _trains_on_masks(cfg: Config) -> bool:
    loader = cfg.get('train_dataloader') or {}
    return any(
        step.get('with_mask', False)
        for dataset in innermost_datasets(loader.get('dataset', {}))
        for step in dataset.get('pipeline') or ())
