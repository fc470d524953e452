"""Golden scenes as the data samples that a metric receives."""
import os.path as osp

import torch

GOLDEN = osp.join(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))), 'data',
    'golden')


def ann_file(name):
    return osp.join(GOLDEN, f'{name}_gt.json')


def xyxy(bbox):
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


def samples_of(annotations, results, dtype=torch.float64):
    """Data samples as a detector gives them, with their ground truth."""
    label_of = {
        category['id']: label
        for label, category in enumerate(annotations['categories'])
    }
    samples = []
    for image in annotations['images']:
        mine = [one for one in results if one['image_id'] == image['id']]
        truth = [
            one for one in annotations['annotations']
            if one['image_id'] == image['id']
        ]
        samples.append(
            dict(
                img_id=image['id'],
                ori_shape=(image['height'], image['width']),
                pred_instances=dict(
                    bboxes=torch.tensor([xyxy(one['bbox']) for one in mine],
                                        dtype=dtype).reshape(-1, 4),
                    scores=torch.tensor([one['score'] for one in mine],
                                        dtype=dtype),
                    labels=torch.tensor(
                        [label_of[one['category_id']] for one in mine],
                        dtype=torch.long)),
                instances=[
                    dict(
                        bbox=xyxy(one['bbox']),
                        bbox_label=label_of[one['category_id']],
                        ignore_flag=one['iscrowd']) for one in truth
                ]))
    return samples


def classes_of(annotations):
    return tuple(category['name'] for category in annotations['categories'])
