"""Names that are not those of the labels are found."""
import json

import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from tcal_det.engine.dataset_classes import check_class_order
from tcal_det.errors import InvalidValueError


@pytest.fixture
def cfg(tmp_path):
    """Of a data set whose file numbers a, b, c."""
    path = tmp_path / 'train.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=0, file_name='x', width=9, height=9)],
                annotations=[],
                categories=[
                    dict(id=label, name=name)
                    for label, name in enumerate('abc')
                ])))

    def make(*classes, **dataset):
        inner = dict(
            dict(
                type='CocoDataset',
                ann_file=str(path),
                data_prefix=dict(img='')), **dataset)
        if classes:
            inner['metainfo'] = dict(classes=classes)
        return Config(
            dict(
                train_dataloader=dict(
                    dataset=dict(type='RepeatDataset', times=2,
                                 dataset=inner))))

    return make


@pytest.mark.parametrize('classes', [('a', 'b', 'c'), ('a', 'c'), ()])
def test_order_of_the_file(cfg, classes):
    """Some of the classes, or those that mmdet names, are in order."""
    check_class_order(cfg(*classes), 'train')
    check_class_order(cfg(*classes), 'val')


@pytest.mark.parametrize('classes, there', [
    (('b', 'a', 'c'), "'b' at label 0, where the file has 'a'"),
    (('a', 'c', 'b'), "'c' at label 1, where the file has 'b'"),
])
def test_another_order(cfg, classes, there):
    with pytest.raises(InvalidValueError) as info:
        check_class_order(cfg(*classes), 'train')
    message = str(info.value)
    assert there in message and '\n' not in message
    # As mmdet itself numbers them.
    dataset = DATASETS.build(
        dict(
            cfg(*classes).train_dataloader.dataset.dataset,
            pipeline=[],
            test_mode=True))
    names = 'abc'
    labels = sorted(dataset.cat2label, key=dataset.cat2label.get)
    expected = tuple(names[cat_id] for cat_id in labels)
    assert message.endswith(f'set it to {expected}')


@pytest.mark.parametrize('classes, problem', [
    (('a', 'x', 'b'), "'x' is none of ('a', 'b', 'c')"),
    (('A', 'b', 'c'), "'A' is none of ('a', 'b', 'c'): write 'a', as the "
     'file does'),
])
def test_names_that_the_file_does_not_have(cfg, classes, problem):
    """Of them mmdet makes no labels."""
    with pytest.raises(InvalidValueError) as info:
        check_class_order(cfg(*classes), 'train')
    assert str(info.value).endswith(problem)
    dataset = DATASETS.build(
        dict(
            cfg(*classes).train_dataloader.dataset.dataset,
            pipeline=[],
            test_mode=True))
    assert len(dataset.cat2label) == 2


def test_a_data_set_that_numbers_its_labels_itself(cfg):

    @DATASETS.register_module(force=True)
    class OtherOrder(CocoDataset):

        def load_data_list(self):
            return []

    check_class_order(cfg('b', 'a', type='OtherOrder'), 'train')


def test_file_that_is_not_there(cfg):
    """It is refused where it is opened."""
    check_class_order(cfg('b', 'a', ann_file='gone.json'), 'train')
