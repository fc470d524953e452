"""Reading of image widths and heights without decoding the images."""
import csv
import os
import os.path as osp
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

from tcal_det.checks import shortened
from tcal_det.errors import InvalidValueError, MissingFileError
from ..results_file import read_json

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff',
                  '.webp')
_EXIF_ORIENTATION = 0x0112
# EXIF orientations that exchange width and height.
_ROTATED = (5, 6, 7, 8)


class ImageSize(NamedTuple):
    """Name and size of an image.

    Attributes:
        file_name (str): File name as in the folder or the list.
        width (int): Width in pixels.
        height (int): Height in pixels.
    """
    file_name: str
    width: int
    height: int


def stem_of(file_name: str) -> str:
    """File name without folders and suffix, e.g. '0001' for 'val/0001.jpg'.

    Args:
        file_name (str): File name with folders, separated by slashes or
            backslashes.
    """
    return osp.splitext(file_name.replace('\\', '/').rsplit('/', 1)[-1])[0]


def read_image_sizes(images: str) -> Dict[str, ImageSize]:
    """Read the sizes of all images.

    Pillow reads only the header of an image file. If the EXIF orientation
    rotates an image, its size is that after rotation, as OpenCV and
    Ultralytics load it.

    Args:
        images (str): Path to a folder of images; or to a JSON file with a
            mapping from file name to [width, height]; or to a CSV file with
            the columns file name, width and height, with or without a header
            line.

    Returns:
        dict[str, ImageSize]: Sizes by file name without folders and suffix,
        sorted.

    Raises:
        MissingFileError: If there is no such file or folder.
        InvalidValueError: If it contains no sizes, or a size is invalid or
            occurs twice.
    """
    if osp.isdir(images):
        entries = _sizes_of_folder(images)
    elif not osp.exists(images):
        raise MissingFileError(f'images {images!r} do not exist')
    elif images.endswith('.json'):
        entries = _sizes_of_json(images)
    elif images.endswith('.csv'):
        entries = _sizes_of_csv(images)
    else:
        raise InvalidValueError(
            'images must be a folder of images, or a .json or .csv file of '
            f'their sizes, but got {images!r}')
    sizes: Dict[str, ImageSize] = {}
    for entry in entries:
        stem = stem_of(entry.file_name)
        if stem in sizes:
            raise InvalidValueError(
                'images must have different names without their suffix, as '
                'labels are assigned by this name, but got '
                f'{entry.file_name!r} and {sizes[stem].file_name!r} (in '
                f'{images!r})')
        sizes[stem] = entry
    if not sizes:
        raise InvalidValueError(
            f'images {images!r} must hold at least one image '
            f'({", ".join(IMAGE_SUFFIXES)}; subfolders are not read)')
    return dict(sorted(sizes.items()))


def _sizes_of_folder(folder: str) -> Iterator[ImageSize]:
    # Imported here, as the import is slow. matplotlib installs Pillow.
    from PIL import Image
    for name in sorted(os.listdir(folder)):
        if not name.lower().endswith(IMAGE_SUFFIXES) or name[0] == '.':
            continue
        path = osp.join(folder, name)
        try:
            with Image.open(path) as image:
                width, height = image.size
                orientation = image.getexif().get(_EXIF_ORIENTATION)
        except Exception as error:  # Pillow raises many kinds
            raise InvalidValueError(
                f'image {path!r} cannot be read: {error}; sizes can be given '
                'in a .json or .csv file instead') from None
        if orientation in _ROTATED:
            width, height = height, width
        yield ImageSize(name, width, height)


def _sizes_of_json(path: str) -> Iterator[ImageSize]:
    content = read_json(path, 'image sizes')
    if not isinstance(content, dict):
        raise InvalidValueError(
            'image sizes must be a mapping from file name to [width, '
            f'height], but got {shortened(content)} (in {path!r})')
    for name, size in content.items():
        if not isinstance(size, list) or len(size) != 2:
            size = (size, None)
        yield ImageSize(name, *_checked(size, f'{name!r} in {path!r}'))


def _sizes_of_csv(path: str) -> Iterator[ImageSize]:
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidValueError(
            f'image sizes {path!r} cannot be read: {error}') from None
    for number, row in enumerate(rows, 1):
        is_title = number == 1 and not any(map(str.isdigit, ''.join(row[1:])))
        if not row or is_title:
            continue
        where = f'line {number} of {path!r}'
        if len(row) != 3:
            raise InvalidValueError(
                f'image sizes must be file name, width and height, but {where}'
                f' is {shortened(row)}')
        size = [
            int(cell) if cell.strip().isdecimal() else cell for cell in row[1:]
        ]
        yield ImageSize(row[0].strip(), *_checked(size, where))


def _checked(size: Sequence[Any], where: str) -> Tuple[int, int]:
    if not all(type(side) is int and side > 0 for side in size):
        raise InvalidValueError(
            'image sizes must be whole numbers of pixels above 0, width and '
            f'height, but got {shortened(list(size))} for {where}')
    return size[0], size[1]
