"""Datasets that a config names, and the files that they open."""
import os.path as osp

from mmengine.config import Config
from mmengine.fileio import exists, list_dir_or_file

from tcal_det.errors import MissingFileError


def check_data(cfg: Config, *dataloaders: str) -> None:
    """Refuse to start without the files that the dataloaders will open.

    Local files only; the innermost dataset of a wrapper is looked at.

    Args:
        cfg (Config): With the dataloaders.
        *dataloaders (str): Their keys, e.g. 'train_dataloader'.

    Raises:
        MissingFileError: Naming the dataloader, the path and the key.
    """
    for key in dataloaders:
        if cfg.get(key) is None:
            continue
        for dataset in innermost_datasets(cfg[key].get('dataset', {})):
            _check_dataset(key, dataset)


def innermost_datasets(dataset: dict) -> list:
    """The data set configs inside wrappers that repeat or concatenate."""
    if 'dataset' in dataset:
        return innermost_datasets(dataset['dataset'])
    if 'datasets' in dataset:
        return [
            inner for wrapped in dataset['datasets']
            for inner in innermost_datasets(wrapped)
        ]
    return [dataset] if dataset else []


def _check_dataset(key: str, dataset: dict) -> None:
    if dataset.get('backend_args'):
        return
    root = dataset.get('data_root') or ''
    if root and not exists(root):
        raise MissingFileError(
            f'`{key}.dataset.data_root` {root!r} does not exist: the README '
            'says where the data comes from, or set the key with '
            f'--cfg-options {key}.dataset.data_root=PATH')
    # Other data sets than COCO's may have none, or several.
    ann_file = dataset.get('ann_file')
    if isinstance(ann_file, str) and ann_file:
        ann_file = osp.join(root, ann_file)
        if not osp.isfile(ann_file):
            raise MissingFileError(
                f'`{key}.dataset.ann_file` {ann_file!r} does not exist: set '
                f'it with --cfg-options {key}.dataset.ann_file=PATH')
    for name, prefix in (dataset.get('data_prefix') or {}).items():
        folder = osp.join(root, prefix or '')
        # Annotations may hold whole paths.
        if folder and not (osp.isdir(folder)
                           and any(list_dir_or_file(folder))):
            raise MissingFileError(
                f'`{key}.dataset.data_prefix.{name}` {folder!r} has no '
                f'files, though the annotations {ann_file!r} are there: the '
                'images are missing')
