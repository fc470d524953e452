"""Class names of a config's dataset, in the order of the labels."""
import json
import os.path as osp
from typing import List, Optional

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from tcal_det.checks import shortened
from tcal_det.dataset_files import innermost_datasets
from tcal_det.errors import InvalidValueError
from tcal_det.models.class_names import (ClassNames, dataset_class_names,
                                         plain_spelling)


def dataset_names(cfg: Config, split: str,
                  num_classes: int) -> Optional[ClassNames]:
    """Return the class names of a detector's training or validation data.

    Args:
        cfg (Config): Detector config with dataloaders.
        split (str): Name of the split, 'train' or 'val'.
        num_classes (int): Number of classes of the detector.

    Returns:
        tuple[str, ...], optional: Class names in the order of the labels;
        None if the dataset does not name its classes.

    Raises:
        InvalidValueError: If there is no dataset, if it has another number of
            classes, or if its annotations number them in another order.
    """
    key = f'{split}_dataloader'
    datasets = innermost_datasets((cfg.get(key) or {}).get('dataset') or {})
    if not datasets:
        raise InvalidValueError(
            f'the config of the student must have `{key}.dataset`, but has '
            'none: add it')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    found = [
        _names(f'{key}.dataset', config, num_classes) for config in datasets
    ]
    if len(set(found)) > 1:
        raise InvalidValueError(
            f'all datasets of `{key}` must have the same `metainfo.classes`, '
            f'but have {sorted(set(map(str, found)))}')
    return found[0]


def check_class_order(cfg: Config, split: str) -> None:
    """Check that the class names of a config are in the order of the labels.

    Only datasets whose config names their classes are checked: the names that
    mmdet defines are in the order of their annotations.

    Args:
        cfg (Config): Detector config with dataloaders.
        split (str): Name of the split, 'train' or 'val'.

    Raises:
        InvalidValueError: If annotations number the classes in another
            order.
    """
    key = f'{split}_dataloader'
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    for config in innermost_datasets((cfg.get(key) or {}).get('dataset', {})):
        if dataset_class_names(config.get('metainfo')) is not None:
            _check_order(f'{key}.dataset', _without_images(config))


def _without_images(config: dict) -> BaseDataset:
    """Build a dataset without reading its annotations and images."""
    return DATASETS.build(dict(config, lazy_init=True, pipeline=[]))


def _names(key: str, config: dict, num_classes: int) -> Optional[ClassNames]:
    dataset = _without_images(config)
    names = dataset_class_names(dataset.metainfo)
    if names is None or 'thing_classes' in dataset.metainfo:
        # The names of a panoptic dataset include classes without boxes.
        return None
    if len(names) != num_classes:
        raise InvalidValueError(
            f'`{key}.metainfo.classes` must name the {num_classes} classes of '
            f'the student, but names {len(names)}: set it, or the '
            '`num_classes` of the head')
    _check_order(key, dataset)
    return names


def _check_order(key: str, dataset: BaseDataset) -> None:
    # A subclass may number its labels in another way.
    load = getattr(type(dataset), 'load_data_list', None)
    if load is not CocoDataset.load_data_list:
        return
    categories = _category_names(dataset.ann_file)
    if categories is None:
        return
    names = dataset_class_names(dataset.metainfo)
    for name in names:
        if name not in categories:
            raise InvalidValueError(
                f'`{key}.metainfo.classes` must be names of categories of '
                f'{dataset.ann_file!r}, but {name!r} is none of '
                f'{shortened(tuple(categories))}'
                f'{_same_but_for_spelling(name, categories)}')
    numbered = [name for name in categories if name in names]
    if numbered != list(names):
        raise InvalidValueError(
            f'`{key}.metainfo.classes` must be in the order of the '
            f'categories of {dataset.ann_file!r}, by which CocoDataset '
            'numbers its labels, but is '
            f'{_first_difference(list(names), numbered)}: '
            f'set it to {tuple(numbered)}')


def _category_names(ann_file: str) -> Optional[List[str]]:
    """List the categories of COCO annotations; None without the file."""
    if not osp.isfile(ann_file):
        return None
    try:
        with open(ann_file, encoding='utf-8') as file:
            return [
                category['name'] for category in json.load(file)['categories']
            ]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            f'{ann_file!r} must have `categories` in the COCO format, but '
            f'cannot be read ({type(error).__name__}: {error})') from None


def _same_but_for_spelling(name: str, categories: List[str]) -> str:
    """Name a category that differs in its spelling only."""
    for category in categories:
        if plain_spelling(category) == plain_spelling(name):
            return f': write {category!r}, as the file does'
    return ''


def _first_difference(names: List[str], numbered: List[str]) -> str:
    """Describe the first name at the wrong label."""
    for label, name in enumerate(names):
        actual = numbered[label] if label < len(numbered) else None
        if name != actual:
            return f'{name!r} at label {label}, where the file has {actual!r}'
    return str(names)
