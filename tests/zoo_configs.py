"""The configs that mmdet packages."""
import os.path as osp

import mmdet

from tests.config_files import read_config

PACKAGED = osp.join(osp.dirname(mmdet.__file__), '.mim', 'configs')


def packaged_model(path):
    """The model of a packaged config.

    Args:
        path (str): Below the packaged ``configs``. Some names are no names
            for ``get_config``.

    Returns:
        ConfigDict | None: The key ``model``.
    """
    # Backbones of another package are not built here.
    return read_config(
        osp.join(PACKAGED, path), import_custom_modules=False).get('model')
