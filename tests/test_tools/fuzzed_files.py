"""Files as the evaluation commands read them, and ways to spoil them."""
import datetime
import json
import math
import os
import pickle
import random
import shutil

import numpy as np
import torch
from hypothesis import strategies as st

# What may stand anywhere in a JSON file.
ODD_VALUES = [
    None, True, False, 0, -1, 1, 2, 1.5, 0.25, 7.0, -0.0, math.nan, math.inf,
    -math.inf, 1e308, -1e308, 1e200, 1e-200, 5e-324, 1e9, 2**53, 2**53 + 1,
    2**63, 2**64 + 1, 10**400, '', 'a', '1', '0.5', 'nan', 'temperature',
    '\ud800', '\x00', 'a\x00', '\N{SNOWMAN}', '$\\frac{', 'x' * 3000, [], {},
    [[]], [None], [0, 0, 5], [0, 0, 5, 5], [1e308] * 4, {
        'a': 1
    }, [0.5, 'b'], {
        'type': 'isotonic',
        'scores': [0.9, 0.1],
        'values': [0, 1]
    }
]
deep = []
for _ in range(200):
    deep = [deep]
ODD_VALUES.append(deep)
# What may stand in a pickle besides.
ODD_OBJECTS = [
    torch.tensor(1),
    torch.tensor(0.5),
    torch.zeros(0),
    torch.zeros(2, 5),
    torch.zeros(3, 4),
    torch.zeros(1, 2, 4),
    torch.tensor([1, -1]),
    torch.tensor([math.nan, 0.5]),
    torch.tensor([[0, 0, math.inf, 1]]),
    torch.tensor([[5., 5, 1, 1]]),
    torch.tensor([True, False]),
    torch.tensor([1j]),
    torch.tensor([0.5], dtype=torch.bfloat16),
    torch.tensor([0.5], dtype=torch.float16),
    torch.tensor([2**62]),
    torch.tensor([0], dtype=torch.uint8),
    torch.zeros(1).to_sparse(),
    np.array(['a']),
    np.array([None, 1], dtype=object),
    np.float32(0.5),
    np.int64(1),
    np.zeros((2, 0)), 1j, b'bytes', {1, 2}, (1, 2),
    datetime.date(2000, 1, 1), print
]
SPOILINGS = ('replace', 'delete', 'repeat', 'wrap', 'swap', 'insert')
# Most files stay readable, so that what they hold is looked at.
FILE_DAMAGES = (None, ) * 14 + ('truncate', 'byte', 'bom', 'utf-16', 'empty',
                                'folder', 'missing', 'nested')

spoilings = st.lists(
    st.tuples(
        st.sampled_from(SPOILINGS), st.integers(0, 2**16),
        st.integers(0, 2**16)),
    max_size=3)
file_damages = st.sampled_from(FILE_DAMAGES)
seeds = st.integers(0, 2**32 - 1)


def small_scene(seed):
    """Annotations and results; scores of an image and class differ."""
    rng = random.Random(seed)
    image_ids, category_ids = (
        rng.choice((list(range(1, n + 1)), [2**53 + k for k in range(n)
                                            ], [f'id {k}' for k in range(n)],
                    [float(k)
                     for k in range(n)], [2**53 + 1, 3.0, 2**64, 2**53][:n]))
        for n in (rng.randint(1, 4), rng.randint(1, 3)))

    def box():
        scale = rng.choice((1, 1, 1, 1e-3, 1e7))
        return [
            scale * rng.randint(0, 12) * rng.choice((1, 1, 0.1))
            for _ in range(4)
        ]

    def record():
        return dict(
            image_id=rng.choice(image_ids),
            category_id=rng.choice(category_ids),
            bbox=box())

    annotations = dict(
        images=[dict(id=one, width=20, height=15) for one in image_ids],
        categories=[
            dict(id=one, name=f'class {k}')
            for k, one in enumerate(category_ids)
        ],
        annotations=[
            dict(record(), id=k, iscrowd=int(rng.random() < 0.2))
            for k in range(rng.randint(0, 6))
        ])
    results = [record() for _ in range(rng.randint(0, 10))]
    for one in results:
        one['score'] = rng.random()
    # Some results are right, and so are their values the limits.
    for one, other in zip(results, annotations['annotations']):
        if rng.random() < 0.6:
            one.update({
                key: other[key]
                for key in ('image_id', 'category_id', 'bbox')
            })
    for one, score in zip(results, (0, 1)):
        if rng.random() < 0.1:
            one['score'] = score
    return annotations, results


def samples_of(scene, container):
    """The results as samples of a pickle; boxes need no more be right."""
    annotations, results = scene
    label_of = {
        one['id']: label
        for label, one in enumerate(annotations['categories'])
    }
    samples = []
    for image in annotations['images']:
        mine = [one for one in results if one['image_id'] == image['id']]
        boxes = [[x, y, x + width, y + height]
                 for x, y, width, height in (one['bbox'] for one in mine)]
        labels = [label_of[one['category_id']] for one in mine]
        samples.append(
            dict(
                img_id=image['id'],
                pred_instances=dict(
                    bboxes=container(boxes) if mine else boxes,
                    scores=container([float(one['score']) for one in mine]),
                    labels=container(labels) if mine else labels)))
    return samples


def recalibration(scene, seed):
    """What `tcal-recalibrate fit` could have written."""
    rng = random.Random(seed)

    def score_map():
        return rng.choice(
            (dict(type='temperature',
                  temperature=2.0), dict(type='platt', scale=0.5, bias=-1.0),
             dict(type='beta', a=0.5, b=1.0, c=0.1),
             dict(
                 type='isotonic',
                 scores=[0.1, 0.5, 0.9],
                 values=[0.0, 0.25, 1.0]),
             dict(type='histogram', values=[0.1, None, 0.5])))

    return dict(
        settings=dict(method='beta', detections=5),
        recalibrator=score_map(),
        classes=[
            dict(
                category_id=one['id'],
                name=one['name'],
                score_thr=rng.choice((None, 0.0, 0.3, 1.0)),
                recalibrator=rng.choice((None, score_map())))
            for one in scene[0]['categories']
        ])


def spoiled(tree, changes, values):
    """A copy of nested dicts and lists with some nodes changed."""
    tree = [_copy(tree)]
    for kind, place, value in changes:
        nodes = list(_nodes(tree))
        parent, key = nodes[place % len(nodes)]
        value = _copy(values[value % len(values)])
        if kind == 'replace':
            parent[key] = value
        elif kind == 'wrap':
            parent[key] = [parent[key]]
        elif kind == 'swap':
            other, other_key = nodes[(place // 7) % len(nodes)]
            # Copies: a node inside the other would make a circle.
            parent[key], other[other_key] = (_copy(other[other_key]),
                                             _copy(parent[key]))
        elif parent is tree:
            continue
        elif kind == 'delete':
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key,
                          _copy(parent[key]) if kind == 'repeat' else value)
        else:
            parent[str(value)[:50]] = value
    return tree[0]


def _copy(tree):
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copy(value) for value in tree]
    return tree


def _nodes(tree):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _nodes(value)


def write_json(path, content, damage, place=0):
    """Write a JSON file, whole or damaged."""
    text = json.dumps(content)
    if damage == 'nested':
        text = text[:-1] + ',' * (len(text) > 2) + '[' * 10**5
    write_bytes(path, text.encode(), damage, place)


def write_pickle(path, content, damage, place=0):
    """Write a pickle, whole or damaged, of any protocol."""
    write_bytes(path, pickle.dumps(content, protocol=2 + place % 4), damage,
                place)


def write_bytes(path, content, damage, place):
    """Write a file, or what stands in its place."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)
    if damage == 'folder':
        os.mkdir(path)
    elif damage == 'truncate':
        content = content[:place % (len(content) + 1)]
    elif damage == 'byte' and content:
        where = place % len(content)
        content = content[:where] + bytes([place % 256]) + content[where + 1:]
    elif damage == 'bom':
        content = b'\xef\xbb\xbf' + content
    elif damage == 'utf-16':
        content = content.decode('latin1').encode('utf-16')
    elif damage == 'empty':
        content = b''
    if damage not in ('folder', 'missing'):
        with open(path, 'wb') as file:
            file.write(content)
