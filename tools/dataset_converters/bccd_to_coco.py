"""Convert the published BCCD dataset to the COCO format.

python tools/dataset_converters/bccd_to_coco.py BCCD --out data/bccd
"""
import math
import os.path as osp
import shutil

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.evaluation.formats.pascal_voc import parse_voc_xml
from tcal_det.fileio import new_folder, write_json_atomically

BCCD_CLASSES = ('RBC', 'WBC', 'Platelets')
SPLITS = ('train', 'val', 'test')


def convert_bccd(source: str, out: str) -> None:
    """Write ``out/images/*.jpg`` and ``out/annotations/{split}.json``.

    The splits are the published ones (205 / 87 / 72 images). The few boxes
    without an area are left out.

    Args:
        source (str): Folder ``BCCD`` of the published data set, with
            ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        out (str): Output folder, which must not exist. It gets this name
            only when it is complete.

    Raises:
        MissingFileError: If a file of the source is missing.
        InvalidValueError: If ``out`` exists or cannot be created, the number
            of an image is missing or not unique, an image name leads out of
            its folder, or an annotation is not in VOC format.
    """
    image_folder = osp.join(source, 'JPEGImages')
    if not osp.isdir(image_folder):
        raise MissingFileError(
            f'`source` {source!r} must be the folder BCCD of the data set, '
            'but ' +
            ('has no JPEGImages' if osp.isdir(source) else 'does not exist'))
    with new_folder(out) as temporary:
        shutil.copytree(image_folder, osp.join(temporary, 'images'))
        for split in SPLITS:
            write_json_atomically(
                osp.join(temporary, 'annotations', f'{split}.json'),
                _coco_split(source, split))


def _check_name(name: str, listed: str) -> None:
    """Refuse a name that leads out of the folder it is joined to."""
    if name != osp.basename(name) or '\\' in name:
        raise InvalidValueError(
            f'{listed!r} must name images inside JPEGImages, without any '
            f'folder, but names {name!r}')


def _coco_split(source: str, split: str) -> dict:
    listed = osp.join(source, 'ImageSets', 'Main', f'{split}.txt')
    if not osp.isfile(listed):
        raise MissingFileError(f'{listed!r} does not exist')
    try:
        with open(listed, encoding='utf-8') as file:
            chosen = file.read().split()
    except UnicodeDecodeError as error:
        raise InvalidValueError(f'{listed!r} is not text: {error}') from None
    images, annotations = [], []
    for name in sorted(chosen):
        _check_name(name, listed)
        image = osp.join(source, 'JPEGImages', f'{name}.jpg')
        if not osp.isfile(image):
            raise MissingFileError(
                f'{listed!r} names {name!r}, but {image!r} does not exist')
        # 'BloodImage_00026' -> 27: ids that no other split uses.
        try:
            image_id = int(name.rpartition('_')[2]) + 1
        except ValueError:
            raise InvalidValueError(
                f"{listed!r} must name images like 'BloodImage_00026', but "
                f'names {name!r}') from None
        if any(image_id == other['id'] for other in images):
            raise InvalidValueError(
                f'{listed!r} must name images by different numbers, but '
                f'{name!r} has the number of another image')
        path = osp.join(source, 'Annotations', f'{name}.xml')
        if not osp.isfile(path):
            raise MissingFileError(f'{path!r} does not exist')
        root = parse_voc_xml(path)
        try:
            size = [
                int(root.findtext(f'size/{side}'))
                for side in ('width', 'height')
            ]
            if min(size) <= 0:
                raise ValueError(f'a size of {size}')
            images.append(
                dict(
                    id=image_id,
                    file_name=f'{name}.jpg',
                    width=size[0],
                    height=size[1]))
            for item in root.iter('object'):
                left, top, right, bottom = (
                    float(item.findtext(f'bndbox/{side}'))
                    for side in ('xmin', 'ymin', 'xmax', 'ymax'))
                width, height = right - left, bottom - top
                if not math.isfinite(width * height):
                    raise ValueError('a box without finite corners')
                if width <= 0 or height <= 0:
                    continue
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=image_id,
                        category_id=BCCD_CLASSES.index(item.findtext('name')) +
                        1,
                        bbox=[left, top, width, height],
                        area=width * height,
                        iscrowd=0))
        except (TypeError, ValueError) as error:
            raise InvalidValueError(
                f'{path!r} is not a VOC annotation of BCCD: {error}') from None
    return dict(
        info=dict(description='BCCD'),
        images=images,
        annotations=annotations,
        categories=[
            dict(id=index + 1, name=name)
            for index, name in enumerate(BCCD_CLASSES)
        ])


def parse_args():
    parser = CommandParser(
        description='Convert the BCCD blood cells from VOC files to COCO')
    parser.add_argument('source', help='folder BCCD of the dataset')
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder to write, which must not exist')
    return parser.parse_args()


def main():
    args = parse_args()
    convert_bccd(args.source, args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run_command(main)
