"""Batches and a data set for tiny detectors."""
import os.path as osp

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tests import head_families
from tools.dataset_converters.digit_scenes import write_digit_scenes

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


class Batches(list):
    """What a dataloader gives, and what it says of itself."""

    def __getitem__(self, index):
        found = super().__getitem__(index)
        return Batches(found) if isinstance(index, slice) else found

    @property
    def dataset(self):
        return [None] * sum(len(data['inputs']) for data in self)


@pytest.fixture
def batches(batch):
    """Two batches of two images of different sizes, ids 0 to 3."""
    made = Batches([batch(seed=0), batch(seed=1)])
    for image_id, sample in enumerate(made[1]['data_samples'], start=2):
        sample.set_metainfo(dict(img_id=image_id))
    return made


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """The folder of six images of digits, 64 x 64."""
    folder = str(tmp_path_factory.mktemp('data') / 'digits')
    write_digit_scenes(
        folder,
        dict(train=2, val=2, test=6),
        size=64,
        digits_per_scene=(2, 3),
        show_progress=False)
    return folder


@pytest.fixture
def digits_cfg(scenes):
    """Config of a tiny Faster R-CNN on these images."""
    cfg = Config.fromfile(osp.join(REPOSITORY, 'tests/data/digits.py'))
    cfg.model = head_families.detector_cfg('faster', num_classes=10)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        loader.dataset.data_root = scenes
    return cfg


@pytest.fixture
def digits_checkpoint(digits_cfg, tmp_path):
    """Checkpoint of that detector, which finds something."""
    path = str(tmp_path / 'detector.pth')
    detector = head_families.build(digits_cfg.model, MODELS)
    torch.save(dict(state_dict=detector.state_dict()), path)
    return path
