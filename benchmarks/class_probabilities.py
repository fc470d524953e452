"""Compare the time of predictions with and without class probabilities.

    python -m benchmarks.class_probabilities

The models are those of configs/_base_ with random weights and 80 classes, on
random images, so no data is needed. The thresholds are so low that each image
has as many detections as the config allows. Each image is predicted with the
option and without it, in turn, on one thread. The times are CPU times, so that
other processes do not count. The figures are medians over the images of one
run, and the median of the ratios of single images.
"""
import copy
import os.path as osp
import statistics
import time

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

from benchmarks import REPOSITORY
from tcal_det.commands import CommandParser
from tcal_det.registry import MODELS

MODEL_FILES = dict(
    faster='faster-rcnn_r18-half_fpn64', retina='retinanet_r18-half_fpn64')
IMAGE_SIZE = (240, 320)
WARM_UP = 3


def build_detectors(name, num_classes):
    """Build a detector without the option, and one with it."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(
        osp.join(REPOSITORY, 'configs', '_base_', 'models',
                 f'{MODEL_FILES[name]}.py')).model
    head = cfg.roi_head.bbox_head if 'roi_head' in cfg else cfg.bbox_head
    head.num_classes = num_classes
    cfg.test_cfg.get('rcnn', cfg.test_cfg).score_thr = 0.001
    cfg.update(type='tcal_det.RecalibratedDetector', detector_type=cfg.type)
    detectors = []
    for option in (False, True):
        cfg.test_cfg.class_probabilities = option
        torch.manual_seed(0)
        detectors.append(MODELS.build(copy.deepcopy(cfg)).eval())
    detectors[1].load_state_dict(detectors[0].state_dict())
    return detectors


def make_image(index):
    """Make an image of the network's input size, and its data sample."""
    generator = torch.Generator().manual_seed(index)
    sample = DetDataSample()
    sample.set_metainfo(
        dict(
            img_shape=IMAGE_SIZE,
            ori_shape=IMAGE_SIZE,
            pad_shape=IMAGE_SIZE,
            batch_input_shape=IMAGE_SIZE,
            scale_factor=(1.0, 1.0)))
    return torch.randn(1, 3, *IMAGE_SIZE, generator=generator), [sample]


@torch.no_grad()
def compare(name, num_classes, num_images):
    """Measure a detector without and with the option.

    Returns:
        tuple: Median milliseconds without and with the option, quartiles of
        their ratio, and median number of detections.
    """
    detectors = build_detectors(name, num_classes)
    times = [], []
    counts = []
    for index in range(-WARM_UP, num_images):
        took = [0.0, 0.0]
        # The order of the two changes from image to image.
        for index_of_detector in (index % 2, 1 - index % 2):
            images, samples = make_image(index + WARM_UP)
            begin = time.process_time()
            results = detectors[index_of_detector].predict(images, samples)
            took[index_of_detector] = time.process_time() - begin
        if index >= 0:
            counts.append(len(results[0].pred_instances))
            for values, value in zip(times, took):
                values.append(1e3 * value)
    ratios = [with_probs / plain for plain, with_probs in zip(*times)]
    return (*map(statistics.median, times), statistics.quantiles(ratios, n=4),
            statistics.median(counts))


def main():
    parser = CommandParser(
        prog='python -m benchmarks.class_probabilities',
        description=__doc__.splitlines()[0])
    parser.add_argument(
        '--images',
        type=int,
        default=30,
        help='number of timed images (default: %(default)s)')
    parser.add_argument(
        '--classes',
        type=int,
        default=80,
        help='number of classes of the detectors (default: %(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f'{"detector":<10}{"detections":>12}{"without, ms":>14}'
          f'{"with, ms":>12}{"ratio, quartiles":>26}')
    for name in MODEL_FILES:
        plain, with_probs, ratio, count = compare(name, args.classes,
                                                  args.images)
        low, middle, high = (f'{value:.3f}' for value in ratio)
        print(f'{name:<10}{count:>12.0f}{plain:>14.1f}{with_probs:>12.1f}'
              f'{middle:>12} ({low} to {high})')


if __name__ == '__main__':
    main()
