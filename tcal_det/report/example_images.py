"""Images with the worst errors, as pictures inside the page.

Boxes are SVG shapes on top of a small JPEG. So they stay sharp, and a screen
reader or a search finds their texts.
"""
import base64
import io
import os.path as osp
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.evaluation.functional import (FALSE_POSITIVE, DetectionMatches,
                                            Detections, GroundTruth)
from tcal_det.evaluation.functional.error_split import (DETECTION_ERRORS,
                                                        ErrorSplit)
from .error_places import is_missed

KINDS_OF_ERROR = dict(
    classification='wrong class',
    localization='inaccurate box',
    both='wrong class and inaccurate box',
    duplicate='second box on an object',
    background='no object there',
    missed='object missed')

# Longer side of a picture in pixels: enough for a third of a desktop screen.
_LONGEST_SIDE = 560
_JPEG_QUALITY = 72
# More boxes would hide the picture.
_MOST_BOXES = 60


@dataclass(frozen=True)
class MarkedBox:
    """One box of a picture.

    Attributes:
        kind (str): Kind of box: 'object', 'false' or 'missed'.
        x (float): Left edge in pixels of the original image.
        y (float): Top edge in the same pixels.
        width (float): Width in the same pixels.
        height (float): Height in the same pixels.
        label (str): Class name, with the score of a detection; '' for none.
    """
    kind: str
    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class ExampleImage:
    """A picture with its boxes.

    Attributes:
        title (str): File name of the image.
        reason (str): Reason why the image is shown.
        width (int): Width of the original image in pixels.
        height (int): Height of the original image in pixels.
        data_uri (str): Small JPEG as a data URI.
        boxes (tuple[MarkedBox, ...]): Boxes in the order of drawing: objects
            first, errors last.
    """
    title: str
    reason: str
    width: int
    height: int
    data_uri: str
    boxes: Tuple[MarkedBox, ...]


def false_positive_images(ground_truth: GroundTruth, detections: Detections,
                          matches: DetectionMatches, split: ErrorSplit,
                          image_files: Mapping[Any, str],
                          number: int) -> List[ExampleImage]:
    """Images of the most confident false positives, each image once.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images.
        matches (DetectionMatches): Matches at IoU threshold 0.5.
        split (ErrorSplit): Errors of these matches by type.
        image_files (Mapping[Any, str]): Path of each image by its id.
        number (int): Maximum number of images.
    """
    wrong = np.flatnonzero(matches.status == FALSE_POSITIVE)
    wrong = wrong[np.argsort(-matches.scores[wrong], kind='stable')]
    images, first = np.unique(detections.image_index[wrong], return_index=True)
    chosen = images[np.argsort(first)][:number]
    examples = []
    for image in chosen.tolist():
        members = wrong[detections.image_index[wrong] == image]
        # Of all false positives in this image, only those of similar score.
        top = matches.scores[members[0]]
        members = members[matches.scores[members] >= top / 2][:_MOST_BOXES]
        name = ground_truth.category_names[matches.class_index[members[0]]]
        kind = DETECTION_ERRORS[split.error_type[members[0]]]
        examples.append(
            _example(ground_truth, image, image_files,
                     f'{name}, score {top:.2f}: {KINDS_OF_ERROR[kind]}', [
                         _marked('false', detections.boxes[index],
                                 _scored_label(ground_truth, matches, index))
                         for index in members.tolist()
                     ]))
    return examples


def missed_object_images(ground_truth: GroundTruth, matches: DetectionMatches,
                         threshold: float, image_files: Mapping[Any, str],
                         number: int) -> List[ExampleImage]:
    """Images with the most missed objects.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        matches (DetectionMatches): Matches at IoU threshold 0.5.
        threshold (float): Score threshold; detections with a lower score are
            left out, NaN keeps all.
        image_files (Mapping[Any, str]): Path of each image by its id.
        number (int): Maximum number of images.
    """
    missed = is_missed(ground_truth, matches.above(threshold))
    count = np.bincount(
        ground_truth.image_index[missed], minlength=ground_truth.num_images)
    objects = np.bincount(
        ground_truth.image_index[~ground_truth.iscrowd],
        minlength=ground_truth.num_images)
    chosen = np.argsort(-count, kind='stable')[:number]
    examples = []
    for image in chosen[count[chosen] > 0].tolist():
        members = np.flatnonzero(missed & (ground_truth.image_index == image))
        examples.append(
            _example(ground_truth, image, image_files,
                     f'{count[image]} of {objects[image]} objects missed', [
                         _marked(
                             'missed', ground_truth.boxes[index], ground_truth.
                             category_names[ground_truth.class_index[index]])
                         for index in members[:_MOST_BOXES].tolist()
                     ]))
    return examples


def _scored_label(ground_truth: GroundTruth, matches: DetectionMatches,
                  index: int) -> str:
    name = ground_truth.category_names[matches.class_index[index]]
    return f'{name} {matches.scores[index]:.2f}'


def _marked(kind: str, box: np.ndarray, label: str) -> MarkedBox:
    return MarkedBox(kind, *(round(side, 1) for side in box.tolist()), label)


def _example(ground_truth: GroundTruth, image: int, image_files: Mapping[Any,
                                                                         str],
             reason: str, errors: List[MarkedBox]) -> ExampleImage:
    image_id = ground_truth.image_ids[image:image + 1].tolist()[0]
    path = image_files.get(image_id)
    if path is None:
        raise InvalidValueError(
            f'`image_files` must have a path for image {image_id!r}, but has '
            'none: check that the annotation file gives its `file_name`')
    data_uri, size = _small_jpeg(path)
    known = ground_truth.image_sizes[image]
    width, height = size if np.isnan(known).any() else known.astype(int)
    drawn_as_error = {(box.x, box.y, box.width, box.height)
                      for box in errors if box.kind == 'missed'}
    objects = [
        _marked('object', box, '')
        for box in ground_truth.boxes[(ground_truth.image_index == image)
                                      & ~ground_truth.iscrowd]
    ]
    return ExampleImage(
        title=_base_name(path),
        reason=reason,
        width=int(width),
        height=int(height),
        data_uri=data_uri,
        boxes=(*(box for box in objects[:_MOST_BOXES]
                 if (box.x, box.y, box.width,
                     box.height) not in drawn_as_error), *errors))


def _base_name(path: str) -> str:
    return path.replace('\\', '/').rsplit('/', 1)[-1]


def _small_jpeg(path: str) -> Tuple[str, Tuple[int, int]]:
    """Image as a data URI, and its original width and height."""
    # Slow to import, and not needed without images.
    from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft('RGB', (_LONGEST_SIDE, _LONGEST_SIDE))
            small = image.convert('RGB')
            small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
            buffer = io.BytesIO()
            small.save(buffer, 'JPEG', quality=_JPEG_QUALITY, optimize=True)
    except FileNotFoundError:
        raise MissingFileError(
            f'image {path!r} does not exist: give the folder to which the '
            '`file_name` of the annotations is relative') from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise InvalidValueError(
            f'image {path!r} cannot be read: {error}') from None
    text = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/jpeg;base64,{text}', size


def image_paths(annotations: Mapping[str, Any],
                folder: Optional[str]) -> Optional[Mapping[Any, str]]:
    """List the path of each image of a COCO annotation file by its id.

    Args:
        annotations (Mapping[str, Any]): Content of the file.
        folder (str, optional): Folder to which ``file_name`` is relative;
            None if there are no image files.

    Returns:
        Mapping[Any, str], optional: Path of each image by its id, without
        the images that have no ``file_name``. None if ``folder`` is None.

    Raises:
        MissingFileError: If the folder does not exist.
    """
    if folder is None:
        return None
    if not osp.isdir(folder):
        raise MissingFileError(
            f'`--images` must be a folder, but {folder!r} is not one')
    return {
        image['id']: osp.join(folder, str(image['file_name']))
        for image in annotations['images'] if 'file_name' in image
    }
