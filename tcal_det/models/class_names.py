"""Class names of data sets and checkpoints."""
import re
from collections.abc import Mapping
from typing import Any, Optional, Tuple

ClassNames = Tuple[str, ...]


def dataset_class_names(metainfo: Any) -> Optional[ClassNames]:
    """Return the class names of a data set.

    Args:
        metainfo (Any): ``dataset.metainfo``, with the key ``classes``, or
            ``CLASSES`` as in mmdet 2.

    Returns:
        tuple[str, ...], optional: Class names in the order of the labels;
        None if ``metainfo`` does not contain them.
    """
    if not isinstance(metainfo, Mapping):
        return None
    names = metainfo.get('classes', metainfo.get('CLASSES'))
    if (isinstance(names, (list, tuple)) and names
            and all(isinstance(name, str) for name in names)):
        return tuple(names)
    return None


def checkpoint_class_names(checkpoint: Mapping) -> Optional[ClassNames]:
    """Return the class names of the data set that a checkpoint is from.

    Args:
        checkpoint (Mapping): Content of the checkpoint file.

    Returns:
        tuple[str, ...], optional: Class names in the order of the labels;
        None if the checkpoint does not contain them.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return None
    # mmdet 2 has the names in `meta` itself.
    return (dataset_class_names(meta.get('dataset_meta'))
            or dataset_class_names(meta))


def plain_spelling(name: str) -> str:
    """Convert a class name to lower case without spaces, hyphens, underscores.

    Args:
        name (str): Name of a class.

    Returns:
        str: Name for comparisons.
    """
    return re.sub(r'[\s_-]', '', name).casefold()
