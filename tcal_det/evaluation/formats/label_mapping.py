"""Mapping from the labels of a detector to the annotated categories."""
import warnings
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Union

from tcal_det.checks import shortened
from tcal_det.errors import InvalidValueError, TcalDetWarning
from .image_sizes import stem_of

Record = Dict[str, Any]
LabelNames = Union[Sequence[str], Mapping[int, str]]


class LabelMapping(NamedTuple):
    """Category of each label.

    Attributes:
        category_ids (dict[int, Any]): Category id by label; None where no
            category has the name of the label.
        names (dict[int, str]): Name by label.
        remedy (str): Advice about unknown labels, for the message.
    """
    category_ids: Dict[int, Any]
    names: Dict[int, str]
    remedy: str

    def category_of(self, label: int, where: str) -> Any:
        """Get the category of one label.

        Args:
            label (int): Label of a detection.
            where (str): Position of the detection, for the message.

        Returns:
            Any: Category id; None where no category has the name of the label.

        Raises:
            InvalidValueError: If the label is unknown.
        """
        if label not in self.category_ids:
            raise InvalidValueError(
                f'{where}: label must be one of {len(self.names)} '
                f'({shortened(self.names)}), but got {shortened(label)}; '
                f'{self.remedy}')
        return self.category_ids[label]

    def warn_of_left_out(self, labels: Sequence[int]) -> None:
        """Warn about detections whose class is not in the annotations.

        Args:
            labels (Sequence[int]): Label of each detection that was left out.
        """
        if labels:
            unknown = [self.names[label] for label in sorted(set(labels))]
            warnings.warn(
                f'{len(labels)} detections of {len(unknown)} classes that the '
                f'annotations do not have ({shortened(unknown)}) are left out',
                TcalDetWarning,
                stacklevel=3)


def map_by_order(categories: Sequence[Record]) -> LabelMapping:
    """Map label k to the k-th category.

    Args:
        categories (Sequence[Record]): Categories in the order of the labels.
    """
    return LabelMapping(
        {
            label: category['id']
            for label, category in enumerate(categories)
        }, {
            label: name_of(category)
            for label, category in enumerate(categories)
        }, 'without class names, labels count the categories of the '
        'annotations in their order')


def map_by_name(names: LabelNames,
                categories: Sequence[Record],
                of_names: str = 'class names',
                are_all: bool = True) -> LabelMapping:
    """Map each label to the category with its name.

    Args:
        names (LabelNames): Name of each label.
        categories (Sequence[Record]): Categories with 'id' and 'name'.
        of_names (str): Description of the names, for messages. Defaults to
            'class names'.
        are_all (bool): Whether these are all classes that the detector knows.
            If so, a warning lists other classes of the annotations, as all
            their objects count as missed. Defaults to True.

    Raises:
        InvalidValueError: If no name is a category, or two categories have the
            same one of the names.
    """
    if not isinstance(names, Mapping):
        names = dict(enumerate(names))
    known = set(names.values())
    id_of_name: Dict[str, Any] = {}
    for category in categories:
        name = name_of(category)
        if name in id_of_name and name in known:
            raise InvalidValueError(
                'categories must have different names to be found by name, '
                f'but {shortened(id_of_name[name])} and '
                f'{shortened(category["id"])} are both {shortened(name)}')
        id_of_name[name] = category['id']
    missing = [name for name in id_of_name if name not in known]
    if names and len(missing) == len(id_of_name):
        raise InvalidValueError(
            f'{of_names} must be among the categories of the annotations '
            f'({shortened(list(id_of_name))}), but got '
            f'{shortened(list(names.values()))}; were both made for the same '
            'classes?')
    if missing and are_all:
        warnings.warn(
            f'{of_names} lack {len(missing)} of the {len(id_of_name)} '
            f'categories of the annotations ({shortened(missing)}); their '
            'objects count as missed',
            TcalDetWarning,
            stacklevel=3)
    return LabelMapping(
        {
            label: id_of_name.get(name)
            for label, name in names.items()
        }, dict(names), f'do the {of_names} belong to these results?')


def name_of(category: Record) -> str:
    """Name of a category; its id where it has none.

    Args:
        category (Record): Category with 'id'.
    """
    return str(category.get('name', category['id']))


def images_by_stem(annotations: Record) -> Dict[str, Record]:
    """Index images by the name of their label files.

    Args:
        annotations (Record): Checked COCO annotations.

    Returns:
        dict[str, Record]: Image records by file name without folders and
        suffix; by id for an image without ``file_name``.

    Raises:
        InvalidValueError: If two images have the same name.
    """
    found: Dict[str, Record] = {}
    for image in annotations['images']:
        name = image.get('file_name')
        stem = stem_of(name) if isinstance(name, str) else str(image['id'])
        if stem in found:
            raise InvalidValueError(
                'images must have different file names without folders and '
                f'suffix to be found by name, but images '
                f'{shortened(found[stem]["id"])} and '
                f'{shortened(image["id"])} are both {shortened(stem)}')
        found[stem] = image
    return found


def image_of(stem: str, by_stem: Mapping[str, Record], where: str) -> Record:
    """Get the image that a label file or a line belongs to.

    Args:
        stem (str): Name of the image without folders and suffix.
        by_stem (Mapping[str, Record]): Images from :func:`images_by_stem`.
        where (str): File or line, for the message.

    Raises:
        InvalidValueError: If the image is not in the annotations.
    """
    if stem not in by_stem:
        examples: List[str] = list(by_stem)[:3]
        raise InvalidValueError(
            f'{where} must belong to one of the {len(by_stem)} images of the '
            f'annotations (such as {shortened(examples)}), but none is called '
            f'{shortened(stem)}; were both made from the same data set and '
            'split?')
    return by_stem[stem]
