"""Teachers with queries, from images to a fitted calibrator."""
import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from tcal_det.models.head_adapters import adapter_for
from tcal_det.teachers.calibration import calibrate_teacher
from tcal_det.teachers.logits import collect_teacher_samples
from tcal_det.teachers.sigmoid_calibration import (calibrate_pairs,
                                                   focal_parameters)
from tests.query_cases import NUM_CLASSES, NUM_QUERIES, build, tiny_model

NUM_IMAGES = 12
SIZE = (96, 128)


class Loader(list):
    """Batches as a dataloader gives them."""

    @property
    def dataset(self):
        return range(NUM_IMAGES)


def annotated_images(detector, seed=0):
    """Objects at boxes of the detector, some of its class, some of others.

    Two more objects of an image are where no query is.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = Loader()
    adapter = adapter_for(detector.eval(), 'teacher')
    for first in range(0, NUM_IMAGES, 2):
        inputs = [
            torch.randint(
                256, (3, *SIZE), dtype=torch.uint8, generator=generator)
            for _ in range(2)
        ]
        samples = []
        for index in range(first, first + 2):
            sample = DetDataSample()
            sample.set_metainfo(
                dict(img_shape=SIZE, ori_shape=SIZE, img_id=index))
            sample.gt_instances = InstanceData(
                bboxes=torch.zeros(0, 4),
                labels=torch.zeros(0, dtype=torch.long))
            samples.append(sample)
        data = dict(inputs=inputs, data_samples=samples)
        with torch.no_grad():
            seen = detector.data_preprocessor(copy.deepcopy(data), False)
            predicted = adapter.predict(seen['inputs'],
                                        seen['data_samples'])[-1]
        for sample, boxes, logits in zip(samples, predicted.boxes,
                                         predicted.logits):
            rows = torch.randperm(NUM_QUERIES, generator=generator)[:4]
            labels = logits[rows, :NUM_CLASSES].argmax(dim=1)
            labels[2:] = (labels[2:] + 1) % NUM_CLASSES
            sample.gt_instances = InstanceData(
                bboxes=torch.cat(
                    [boxes[rows],
                     torch.tensor([[0., 0., 1., 1.]])]),
                labels=torch.cat([labels, labels[:1]]))
        batches.append(data)
    return batches


def test_dino(recwarn):
    detector = build(tiny_model('DINO'))
    pairs = collect_teacher_samples(detector, annotated_images(detector))
    assert pairs.sample_name == 'queries' and not pairs.scores_iou
    assert pairs.num_images == NUM_IMAGES
    assert pairs.all.num_seen == NUM_IMAGES * NUM_QUERIES * NUM_CLASSES
    # Each object is detected at most once, and some are.
    assert NUM_IMAGES < pairs.sum_targets <= 5 * NUM_IMAGES
    assert set(np.unique(pairs.scored.targets)) == {0, 1}
    calibration = calibrate_pairs(pairs, 'PlattScaling', fit_to='all')
    assert calibration.after['all'].nll < calibration.before['all'].nll
    assert calibration.calibrator.cls_channels == NUM_CLASSES
    assert 'pairs of queries and classes' in calibration.table()
    focal = focal_parameters(adapter_for(detector, 'teacher'))
    assert focal == dict(alpha=0.25, gamma=2.0)


def test_detr():
    detector = build(tiny_model('DETR'))
    images = annotated_images(detector)
    samples = collect_teacher_samples(detector, images, 'test')
    assert samples.sample_name == 'queries'
    assert samples.num_seen == NUM_IMAGES * NUM_QUERIES
    assert samples.logits.shape == (NUM_IMAGES * NUM_QUERIES, NUM_CLASSES + 1)
    foreground = int(samples.is_foreground.sum())
    assert NUM_IMAGES < foreground <= 5 * NUM_IMAGES
    calibration = calibrate_teacher(samples, 'TemperatureScaling', 'nll')
    assert calibration.before['all'].nll > 0
    assert calibration.calibrator.cls_channels == NUM_CLASSES + 1


@pytest.mark.parametrize('name', ['DETR', 'DINO'])
def test_queries_in_ignored_regions_are_left_out(name):
    detector = build(tiny_model(name))
    images = annotated_images(detector)
    counts = []
    for _ in range(2):
        collected = collect_teacher_samples(detector, images)
        counts.append(getattr(collected, 'all', collected).num_seen)
        for data in images:
            # All of the image: what is left are the hits.
            for sample in data['data_samples']:
                sample.ignored_instances = InstanceData(
                    bboxes=torch.tensor([[0., 0., SIZE[1], SIZE[0]]]),
                    labels=torch.zeros(1, dtype=torch.long))
    columns = 1 if name == 'DETR' else NUM_CLASSES
    assert counts[0] == NUM_IMAGES * NUM_QUERIES * columns
    hits = (
        int(collected.is_foreground.sum())
        if name == 'DETR' else int(collected.sum_targets))
    assert counts[1] == hits * columns > 0
