"""Ids of images and categories: whole numbers or texts, compared exactly.

They are compared as Python objects. numpy would round large whole numbers that
stand next to floats, and would drop null characters at the end of a text.
"""
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .array_checks import without_tensor


def is_id(value: Any) -> bool:
    """Whether a value can be an id.

    Args:
        value (Any): Value to check. Whole numbers, also written as 7.0, and
            texts are valid ids.
    """
    if isinstance(value, (str, int, np.integer)):
        return not isinstance(value, bool)
    return isinstance(value,
                      (float, np.floating)) and float(value).is_integer()


def sorted_ids(ids: Sequence[Any], list_name: str) -> np.ndarray:
    """Sort ids of images or categories and check that they are unique.

    Args:
        ids (Sequence[Any]): Ids in file order.
        list_name (str): 'images' or 'categories', for the message.

    Returns:
        ndarray: Sorted ids, int64 if all of them fit, else Python objects.

    Raises:
        InvalidTypeError: If an id is neither a whole number nor a text, or
            both kinds occur.
        InvalidValueError: If an id occurs twice.
    """
    first_place: Dict[Any, int] = {}
    for place, value in enumerate(ids):
        if not is_id(value):
            raise InvalidTypeError(
                f'`{list_name}[{place}]`: `id` must be a whole number or a '
                f'text, but got {shortened(value)}')
        if isinstance(value, str) != isinstance(ids[0], str):
            raise InvalidTypeError(
                f'`{list_name}[{place}]`: `id` must be like the others, all '
                'whole numbers or all texts, but got '
                f'{shortened(value)} after {shortened(ids[0])}')
        if value in first_place:
            raise InvalidValueError(
                f'`{list_name}[{place}]`: `{list_name}` must have unique '
                f'ids, but got {shortened(value)} again, which '
                f'`{list_name}[{first_place[value]}]` has')
        first_place[value] = place
    return _as_array(
        sorted(
            value if isinstance(value, str) else int(value) for value in ids))


def positions(ids: Union[Sequence[Any], np.ndarray], known: np.ndarray,
              list_name: str, field: str) -> np.ndarray:
    """Find the index of each id among the known ids.

    Args:
        ids (Sequence[Any]): Ids to find, shape (N,).
        known (ndarray): Known ids from :func:`sorted_ids`.
        list_name (str): Name of the list of records, for the message.
        field (str): Name of the field ('id', 'image_id' or 'category_id'), for
            the message.

    Returns:
        ndarray: Indices, int64, shape (N,).

    Raises:
        InvalidValueError: If an id is unknown; the message names the record.
    """
    ids = without_tensor(ids)
    ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
    place_of = {value: place for place, value in enumerate(known.tolist())}
    try:
        found = np.fromiter(map(place_of.__getitem__, ids), np.int64, len(ids))
    except (KeyError, TypeError):  # unknown or unhashable
        found = None
    # True equals 1, but is not a valid id.
    if found is not None and not {bool, np.bool_} & set(map(type, ids)):
        return found
    record = next(number for number, value in enumerate(ids)
                  if not is_id(value) or value not in place_of)
    kind = 'category' if field == 'category_id' else 'image'
    raise InvalidValueError(
        f'`{list_name}[{record}]`: `{field}` must be one of the {len(known)} '
        f'{kind} ids of the annotations (such as '
        f'{shortened(known[:3].tolist())}), but got '
        f'{shortened(ids[record])}; were both files made from the same data '
        'set and split?')


def subset_mask(requested: Optional[Sequence[Any]], known: np.ndarray,
                name: str) -> np.ndarray:
    """Mask of the known ids that were requested, with shape of ``known``.

    Args:
        requested (Sequence[Any], optional): Requested ids. None means all.
        known (ndarray): Known ids from :func:`sorted_ids`.
        name (str): Name of the argument ('image_ids' or 'category_ids'), for
            the message.
    """
    if requested is None:
        return np.ones(len(known), dtype=bool)
    mask = np.zeros(len(known), dtype=bool)
    mask[positions(requested, known, name, name[:-1])] = True
    return mask


def _as_array(ids: List[Any]) -> np.ndarray:
    if not ids or not isinstance(ids[0], str):
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            pass
    return np.array(ids, dtype=object)
