"""Check that the files of the datasets in a config exist."""
import os
import os.path as osp

from mmengine.config import Config
from mmengine.fileio import exists, list_dir_or_file

from tcal_det.errors import MissingFileError


def check_data(cfg: Config, *dataloaders: str) -> None:
    """Check that the files exist which the dataloaders will open.

    Only local files are checked. For a dataset wrapper, the innermost
    datasets are checked.

    Args:
        cfg (Config): Config with the dataloaders.
        *dataloaders (str): Keys of the dataloaders, e.g. 'train_dataloader'.

    Raises:
        MissingFileError: If a file or folder is missing. The message names
            the dataloader, the path and the key.
    """
    for key in dataloaders:
        if cfg.get(key) is None:
            continue
        for dataset in innermost_datasets(cfg[key].get('dataset', {})):
            _check_dataset(key, dataset)


def innermost_datasets(dataset: dict) -> list:
    """Return the dataset configs inside wrappers (repeat, concatenate).

    Args:
        dataset (dict): Config of a dataset or of a wrapper.

    Returns:
        list[dict]: Configs of the innermost datasets.
    """
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
            f'`{key}.dataset.data_root` {root!r} does not exist'
            f'{_seen_from_here(root)}: set it with --cfg-options '
            f'{key}.dataset.data_root=PATH; docs/how_to/coco.md says where '
            'the data of the configs of tcal_det comes from')
    # Datasets of other formats than COCO may have none, or several.
    ann_file = dataset.get('ann_file')
    if isinstance(ann_file, str) and ann_file:
        ann_file = osp.join(root, ann_file)
        if not osp.isfile(ann_file):
            raise MissingFileError(
                f'`{key}.dataset.ann_file` {ann_file!r} does not exist: set '
                f'it with --cfg-options {key}.dataset.ann_file=PATH')
    for name, prefix in (dataset.get('data_prefix') or {}).items():
        folder = osp.join(root, prefix or '')
        # The annotations may hold absolute paths; then the prefix is empty.
        if folder and not (osp.isdir(folder)
                           and any(list_dir_or_file(folder))):
            raise MissingFileError(
                f'`{key}.dataset.data_prefix.{name}` {folder!r} has no '
                f'files, though the annotations {ann_file!r} are there: the '
                'images are missing')


def _seen_from_here(path: str) -> str:
    return '' if osp.isabs(path) else f', seen from {os.getcwd()!r}'
