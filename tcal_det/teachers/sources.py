"""Build a teacher and its calibration images from a config."""
import os.path as osp
from typing import List, Optional, Tuple, Union

import torch.nn as nn
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from tcal_det.checks import check_choice, check_count, shortened
from tcal_det.config_file import merge_options
from tcal_det.dataset_files import check_data, innermost_datasets
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.distillers.detector_files import (build_detector,
                                                       find_detector,
                                                       load_weights)
from tcal_det.teacher_options import SPLITS


def load_teacher_config(
        config: str,
        checkpoint: str,
        cfg_options: Optional[dict] = None) -> Tuple[Config, str]:
    """Read a teacher's config and find its checkpoint.

    Args:
        config (str): Path or 'mmdet::...' name of a detector config.
        checkpoint (str): Path or URL of the checkpoint; 'auto' for the zoo
            weights of an 'mmdet::' config.
        cfg_options (dict, optional): New config values by dotted key.
            Defaults to None.

    Returns:
        tuple[Config, str]: Config, and path or URL of the checkpoint.

    Raises:
        MissingFileError: If the config does not exist.
        InvalidValueError: If the config cannot be read, an option does not
            fit to it, or 'auto' finds no weights.
    """
    cfg, checkpoint = find_detector(config, checkpoint)
    merge_options(cfg, cfg_options)
    return cfg, checkpoint


def build_teacher(cfg: Config, checkpoint: str) -> nn.Module:
    """Build a detector and load all of its weights.

    Args:
        cfg (Config): Config with the key ``model``.
        checkpoint (str): Path or URL of the checkpoint.

    Returns:
        nn.Module: Detector in evaluation mode, on the GPU if there is one.

    Raises:
        MissingFileError: If the checkpoint does not exist.
        InvalidTypeError: If ``model`` is not a dict.
        InvalidValueError: If the checkpoint cannot be read, or is of another
            detector.
    """
    _check_dict('model', cfg['model'])
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    detector = build_detector(cfg)
    load_weights(detector, checkpoint)
    return detector.to(get_device()).eval()


def build_calibration_dataloader(cfg: Config,
                                 split: str = 'val') -> DataLoader:
    """Build a dataloader with test images of a split and annotations.

    There is no augmentation and no shuffling. The boxes are scaled with their
    image (mmdet's own test pipelines leave them in the original scale).
    Wrappers that repeat a dataset are removed, and images without objects are
    kept.

    Args:
        cfg (Config): Detector config with dataloaders.
        split (str): Name of the split, 'val', 'test' or 'train'. Defaults to
            'val'.

    Returns:
        DataLoader: Raw batches for the detector's data preprocessor.

    Raises:
        InvalidTypeError: If a part of the dataloader has the wrong type.
        InvalidValueError: If the config has no such dataloader or pipeline.
        MissingFileError: If files of the dataset do not exist.
    """
    check_choice('split', split, SPLITS)
    key = f'{split}_dataloader'
    if not cfg.get(key):
        raise InvalidValueError(
            f'the config must have `{key}` for --split {split}, but has '
            'none: choose another split')
    pipeline_key = key if split != 'train' else 'val_dataloader'
    for name in {key, pipeline_key}:
        if cfg.get(name):
            _check_loader(name, cfg[name])
    check_data(cfg, key)
    tested = innermost_datasets((cfg.get(pipeline_key)
                                 or {}).get('dataset', {}))
    pipeline = _calibration_pipeline(tested[0] if tested else {}, pipeline_key)
    loader = dict(cfg[key])
    loader.pop('batch_sampler', None)
    loader.update(
        sampler=dict(type='DefaultSampler', shuffle=False),
        drop_last=False,
        persistent_workers=False,
        dataset=_with_pipeline(cfg[key]['dataset'], pipeline))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return Runner.build_dataloader(loader)


def annotation_files(cfg: Config, split: str) -> List[str]:
    """List the annotation files of a split.

    Args:
        cfg (Config): Detector config with dataloaders.
        split (str): Name of the split, 'val', 'test' or 'train'.

    Returns:
        list[str]: Paths of the files; empty if the config has no such split.
    """
    loader = cfg.get(f'{split}_dataloader') or {}
    return [
        osp.join(dataset.get('data_root') or '', dataset['ann_file'])
        for dataset in innermost_datasets(loader.get('dataset', {}))
        if isinstance(dataset.get('ann_file'), str)
    ]


def shares_annotations(cfg: Config,
                       split: str,
                       trained_by: Optional[Config] = None) -> bool:
    """Check whether a split shares an annotation file with a training split.

    Args:
        cfg (Config): Config of the split.
        split (str): Name of the split, 'val', 'test' or 'train'.
        trained_by (Config, optional): Config of the training split. Defaults
            to None, ``cfg``.

    Returns:
        bool: True if at least one annotation file is in both.
    """
    chosen, training = ({
        osp.abspath(path)
        for path in annotation_files(config, name)
    } for config, name in ((cfg, split), (trained_by or cfg, 'train')))
    return bool(chosen & training)


def _check_dict(key: str, value: object) -> None:
    if not isinstance(value, dict):
        raise InvalidTypeError(
            f'`{key}` of the config must be a dict, but is {shortened(value)}')


def _check_loader(key: str, loader: object) -> None:
    """Check the form of a dataloader config before mmengine builds it."""
    _check_dict(key, loader)
    check_count(f'{key}.batch_size', loader.get('batch_size', 1))
    check_count(f'{key}.num_workers', loader.get('num_workers', 0), lowest=0)
    datasets = [(f'{key}.dataset', loader.get('dataset'))]
    for name, dataset in datasets:
        _check_dict(name, dataset)
        if 'dataset' in dataset:
            datasets.append((f'{name}.dataset', dataset['dataset']))
        elif 'datasets' in dataset:
            datasets += [(f'{name}.datasets[{index}]', inner)
                         for index, inner in enumerate(dataset['datasets'])]


def _with_pipeline(dataset: dict, pipeline: List[dict]) -> dict:
    if 'datasets' in dataset:
        return dict(
            dataset,
            datasets=[
                _with_pipeline(inner, pipeline)
                for inner in dataset['datasets']
            ])
    if 'dataset' in dataset:
        return _with_pipeline(dataset['dataset'], pipeline)
    # In test mode no image is filtered out.
    return dict(dataset, pipeline=pipeline, test_mode=True)


def _calibration_pipeline(dataset: dict, key: str) -> List[dict]:
    """Make a test pipeline that loads boxes before it resizes the image."""
    pipeline = dataset.get('pipeline') or []
    if not isinstance(pipeline, (list, tuple)) or not all(
            isinstance(transform, dict) and 'type' in transform
            for transform in pipeline):
        raise InvalidTypeError(
            f'`{key}.dataset.pipeline` must be a list of dicts with `type`, '
            f'but is {shortened(pipeline)}')
    pipeline = [
        transform for transform in pipeline
        if _name_of(transform['type']) != 'LoadAnnotations'
    ]
    if not pipeline:
        raise InvalidValueError(
            f'the config must have `{key}.dataset.pipeline`, which loads '
            'images for testing, but has none')
    loader, rest = pipeline[0], pipeline[1:]
    return [loader, dict(type='LoadAnnotations', with_bbox=True), *rest]


def _name_of(kind: Union[str, type]) -> str:
    """Return the name of a transform, given as a name or as a class."""
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]
