"""Small data sets, written as label folders of every format."""
import os
import os.path as osp

import numpy as np


def write(folder, files):
    """Write text files into a new folder; its path as text."""
    os.makedirs(folder, exist_ok=True)
    for name, text in files.items():
        with open(osp.join(folder, name), 'w', encoding='utf-8') as file:
            file.write(text)
    return str(folder)


def random_annotations(seed, num_images=4, num_classes=3, most_objects=6):
    """COCO annotations; ids and class names as a YOLO folder gives them."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for number in range(num_images):
        width, height = (int(side) for side in rng.integers(20, 4000, 2))
        stem = f'image {number}'
        images.append(
            dict(id=stem, file_name=f'{stem}.png', width=width, height=height))
        for _ in range(rng.integers(0, most_objects + 1)):
            side = rng.random(2) * (width, height)
            corner = rng.random(2) * ((width, height) - side)
            objects.append(
                dict(
                    id=len(objects) + 1,
                    image_id=stem,
                    category_id=int(rng.integers(num_classes)) + 1,
                    bbox=[*corner.tolist(), *side.tolist()],
                    iscrowd=0))
    return dict(
        images=images,
        categories=[
            dict(id=k + 1, name=f'class {k}') for k in range(num_classes)
        ],
        annotations=objects)


def random_results(seed, annotations, most=8):
    """COCO results records of these images and categories."""
    rng = np.random.default_rng(seed)
    records = []
    for image in annotations['images']:
        size = np.array([image['width'], image['height']])
        for _ in range(rng.integers(0, most + 1)):
            side = rng.random(2) * size
            corner = rng.random(2) * (size - side)
            category = rng.choice(annotations['categories'])
            records.append(
                dict(
                    image_id=image['id'],
                    category_id=category['id'],
                    bbox=[*corner.tolist(), *side.tolist()],
                    score=float(rng.random())))
    return records


def yolo_line(record, image, label, form=repr):
    x, y, width, height = record['bbox']
    values = [(x + width / 2) / image['width'],
              (y + height / 2) / image['height'], width / image['width'],
              height / image['height']]
    if 'score' in record:
        values.append(record['score'])
    return ' '.join([str(label), *map(form, values)])


def write_yolo(folder, annotations, records, with_names=True, form=repr):
    """A label folder of objects or detections; empty images have no file."""
    labels = {
        category['id']: label
        for label, category in enumerate(annotations['categories'])
    }
    files = {}
    for image in annotations['images']:
        lines = [
            yolo_line(one, image, labels[one['category_id']], form)
            for one in records if one['image_id'] == image['id']
        ]
        if lines:
            files[osp.splitext(image['file_name'])[0] +
                  '.txt'] = '\n'.join(lines)
    if with_names:
        files['classes.txt'] = '\n'.join(one['name']
                                         for one in annotations['categories'])
    return write(folder, files)


def write_sizes(path, annotations):
    """A CSV file of image sizes."""
    with open(path, 'w', encoding='utf-8') as file:
        for image in annotations['images']:
            file.write(
                f'{image["file_name"]},{image["width"]},{image["height"]}\n')
    return str(path)


def voc_corners(bbox):
    """Corners of the VOC devkit: counted from 1, both inside of the box."""
    x, y, width, height = bbox
    return x + 1, y + 1, x + width, y + height


def voc_xml(image, objects, names):
    """Text of an annotation file of Pascal VOC."""
    lines = [
        '<annotation>', f'<filename>{image["file_name"]}</filename>',
        f'<size><width>{image["width"]}</width>'
        f'<height>{image["height"]}</height><depth>3</depth></size>'
    ]
    for one in objects:
        corners = ''.join(
            f'<{name}>{value!r}</{name}>'
            for name, value in zip(('xmin', 'ymin', 'xmax',
                                    'ymax'), voc_corners(one['bbox'])))
        lines.append(
            f'<object><name>{names[one["category_id"]]}</name>'
            f'<difficult>{one["iscrowd"]}</difficult>'
            f'<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>'
            f'<bndbox>{corners}</bndbox></object>')
    return '\n'.join([*lines, '</annotation>'])


def write_voc(folder, annotations):
    names = {one['id']: one['name'] for one in annotations['categories']}
    return write(
        folder, {
            osp.splitext(image['file_name'])[0] + '.xml':
            voc_xml(image, [
                one for one in annotations['annotations']
                if one['image_id'] == image['id']
            ], names)
            for image in annotations['images']
        })
