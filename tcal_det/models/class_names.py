"""Names of the classes that a detector was, or is, trained for."""
import re
from collections.abc import Mapping
from typing import Any, Optional, Tuple

ClassNames = Tuple[str, ...]


def dataset_class_names(metainfo: Any) -> Optional[ClassNames]:
    """Class names of a data set.

    Args:
        metainfo (Any): ``dataset.metainfo``, with the key ``classes``, or
            ``CLASSES`` as in mmdet 2.

    Returns:
        tuple[str, ...], optional: In the order of the labels; None where
        ``metainfo`` does not say.
    """
    if not isinstance(metainfo, Mapping):
        return None
    names = metainfo.get('classes', metainfo.get('CLASSES'))
    if (isinstance(names, (list, tuple)) and names
            and all(isinstance(name, str) for name in names)):
        return tuple(names)
    return None


def checkpoint_class_names(checkpoint: Mapping) -> Optional[ClassNames]:
    """Class names of the data set that a checkpoint was trained on.

    Args:
        checkpoint (Mapping): What the file holds.

    Returns:
        tuple[str, ...], optional: In the order of the labels; None where
        the checkpoint does not say.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return None
    # mmdet 2 has the names in `meta` itself.
    return (dataset_class_names(meta.get('dataset_meta'))
            or dataset_class_names(meta))


def plain_spelling(name: str) -> str:
    """A class name without upper case, spaces, hyphens and underscores.

    Args:
        name (str): Name of a class.
    """
    return re.sub(r'[\s_-]', '', name).casefold()
