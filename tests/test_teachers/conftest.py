"""A small annotated data set, and a teacher's config that names it."""
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

NUM_IMAGES = 6
# The test pipeline doubles the size of the images.
SIZE = (64, 96)


@pytest.fixture
def calibration_files(tmp_path, teacher_files):
    """Write images, annotations, config and checkpoint of a teacher.

    Returns a function that gives (config path, checkpoint path). The last
    image has no object.
    """

    def make(logit_scale=1.0, num_images=NUM_IMAGES, has_objects=True):
        folder = tmp_path / 'data'
        (folder / 'images').mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        images, annotations = [], []
        for index in range(num_images):
            name = f'{index}.png'
            cv2.imwrite(
                str(folder / 'images' / name),
                rng.integers(0, 256, (*SIZE, 3), np.uint8))
            images.append(
                dict(id=index, file_name=name, height=SIZE[0], width=SIZE[1]))
            if has_objects and index < num_images - 1:
                annotations += [
                    dict(
                        id=100 * index + k,
                        image_id=index,
                        category_id=k + 1,
                        bbox=[4.0 + 24 * k, 8.0, 20.0 + 8 * k, 40.0],
                        area=800.0,
                        iscrowd=0) for k in range(3)
                ]
        content = dict(
            images=images,
            annotations=annotations,
            categories=[
                dict(id=k + 1, name=name) for k, name in enumerate('abc')
            ])
        for split in ('train', 'val'):
            (folder / f'{split}.json').write_text(json.dumps(content))

        teacher = teacher_files()
        cfg = Config.fromfile(teacher['config'])
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2 * SIZE[1], 2 * SIZE[0])),
            # Where mmdet's own configs have it: after Resize.
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs'),
        ]
        dataset = dict(
            type='CocoDataset',
            data_root=str(folder),
            ann_file='val.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=tuple('abc')),
            test_mode=True,
            pipeline=pipeline)
        cfg.val_dataloader = dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dataset)
        cfg.train_dataloader = dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            batch_sampler=dict(type='AspectRatioBatchSampler'),
            dataset=dict(
                type='RepeatDataset',
                times=3,
                dataset=dict(
                    dataset,
                    ann_file='train.json',
                    test_mode=False,
                    filter_cfg=dict(filter_empty_gt=True),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='LoadAnnotations', with_bbox=True),
                        dict(type='RandomFlip', prob=1.0),
                        dict(type='PackDetInputs')
                    ])))
        cfg.dump(teacher['config'])
        checkpoint = torch.load(teacher['checkpoint'])
        state = checkpoint['state_dict']
        # It has learned that most RoIs are background, and no more.
        state['roi_head.bbox_head.fc_cls.weight'] *= 0.2
        state['roi_head.bbox_head.fc_cls.bias'][-1] = 1.5
        for name in ('weight', 'bias'):
            state[f'roi_head.bbox_head.fc_cls.{name}'] *= logit_scale
        torch.save(checkpoint, teacher['checkpoint'])
        return teacher['config'], teacher['checkpoint']

    return make
