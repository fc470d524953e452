"""Compare the time of TeacherCalibrationHook with that of a training step.

    python -m benchmarks.teacher_calibration_hook

The model is that of configs/bccd, distilled from its teacher with random
weights, on random images of the same size, so no data is needed. Steps, hook
and figure are timed in turn in one run, so that the ratio is valid on a busy
machine.
"""
import os.path as osp
import statistics
import tempfile
import time
from types import SimpleNamespace

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData

from benchmarks import REPOSITORY
from tcal_det.commands import CommandParser
from tcal_det.engine.hooks import TeacherCalibrationHook
from tcal_det.registry import MODELS

CONFIGS = osp.join(REPOSITORY, 'configs', 'bccd')
IMAGE_SIZE = (240, 320)
BATCH_SIZE = 8
OBJECTS_PER_IMAGE = 13
WARM_UP = 2


def build_model(device):
    """Build the student of configs/bccd with a teacher of random weights."""
    teacher = osp.join(CONFIGS, 'faster-rcnn_r18-half_fpn_24e_bccd.py')
    model = Config.fromfile(
        osp.join(
            CONFIGS,
            'faster-rcnn_r18-quarter_fpn_tcal-r18-half_12e_bccd.py')).model
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = osp.join(folder, 'teacher.pth')
        weights = MODELS.build(Config.fromfile(teacher).model).state_dict()
        torch.save(weights, checkpoint)
        model.teacher.update(config=teacher, checkpoint=checkpoint)
        model = MODELS.build(model)
        model.init_weights()
    return model.to(device).train()


def make_batch():
    """Make random images with objects of 0.1 to 0.3 of their size."""
    height, width = IMAGE_SIZE
    inputs, data_samples = [], []
    for _ in range(BATCH_SIZE):
        size = torch.tensor([width, height], dtype=torch.float32)
        extent = size * torch.empty(OBJECTS_PER_IMAGE, 2).uniform_(.1, .3)
        corner = (size - extent) * torch.rand(OBJECTS_PER_IMAGE, 2)
        sample = DetDataSample(
            gt_instances=InstanceData(
                bboxes=torch.cat([corner, corner + extent], dim=1),
                labels=torch.randint(0, 3, (OBJECTS_PER_IMAGE, ))))
        sample.set_metainfo(
            dict(img_shape=IMAGE_SIZE, scale_factor=(1.0, 1.0)))
        inputs.append(
            torch.randint(0, 256, (3, *IMAGE_SIZE), dtype=torch.uint8))
        data_samples.append(sample)
    return dict(inputs=inputs, data_samples=data_samples)


def seconds_of(device, call, *args):
    """Measure the wall time of a call, including the device's queue."""
    if device == 'cuda':
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call(*args)
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main():
    parser = CommandParser(
        prog='python -m benchmarks.teacher_calibration_hook',
        description=__doc__.splitlines()[0])
    parser.add_argument(
        '--steps',
        type=int,
        default=20,
        help='number of timed steps (default: %(default)s)')
    args = parser.parse_args()
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = build_model(device)
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-4))
    hook = TeacherCalibrationHook()
    runner = SimpleNamespace(
        model=model,
        iter=0,
        message_hub=MessageHub.get_instance('benchmark'),
        visualizer=SimpleNamespace(add_image=lambda *_, **__: None))
    hook.before_train(runner)

    steps, samples, skips = [], [], []
    for step in range(args.steps + WARM_UP):
        batch = make_batch()
        runner.iter = hook.interval - 1
        before = seconds_of(device, hook.before_train_iter, runner, 0)
        took = seconds_of(device, model.train_step, batch, optimizer)
        after = seconds_of(device, hook.after_train_iter, runner, 0)
        runner.iter = 0
        skip = sum(
            seconds_of(device, part, runner, 0)
            for part in (hook.before_train_iter, hook.after_train_iter))
        if step < WARM_UP:
            # The first figure imports matplotlib.
            hook.after_train_epoch(runner)
            continue
        steps.append(took)
        samples.append(before + after)
        skips.append(skip)
    figure = seconds_of(device, hook.after_train_epoch, runner)

    step, sample, skip = map(statistics.median, (steps, samples, skips))
    cost = sample + (hook.interval - 1) * skip
    share = cost / (hook.interval * step)
    print(f'device                    {device}, '
          f'{torch.get_num_threads()} threads of torch\n'
          f'training step             {1e3 * step:10.3f} ms\n'
          f'hook, sampled iteration   {1e3 * sample:10.3f} ms\n'
          f'hook, other iteration     {1e3 * skip:10.3f} ms\n'
          f'figure, once per epoch    {1e3 * figure:10.3f} ms\n'
          f'share of a step, interval {hook.interval}: {share:.4%}')


if __name__ == '__main__':
    main()
