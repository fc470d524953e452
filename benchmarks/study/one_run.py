"""Make one run of the plan, in this process.

    python -m benchmarks.study.one_run digits/A/baseline/seed201

Writes config, log, checkpoint and ``row.json`` to work_dirs/study/NAME.
``benchmarks.study.run`` calls it for every run that is not in the results.
"""
import os
import time
from datetime import datetime
from typing import Any, Dict

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import write_json_atomically
from . import plan
from .data import make_digits, make_folds
from .origin import describe_origin

PACKAGES = ('torch', 'mmcv', 'mmengine', 'mmdet')
CODE = ('tcal_det', 'configs', 'tools/dataset_converters', 'benchmarks/study')
# Attributes of a run that its row has, too.
SETTINGS = ('name', 'block', 'data', 'head', 'arm', 'teacher', 'epochs',
            'seed', 'fold', 'loss_weight')


def parse_args():
    parser = CommandParser(description='Make one run of the study')
    parser.add_argument('name', help='name of the run in the plan')
    return parser.parse_args()


def find_run(name: str) -> plan.Run:
    """The run of a name.

    Raises:
        InvalidValueError: If the plan has none of this name.
    """
    for block in plan.BLOCKS.values():
        for run in block.runs:
            if run.name == name:
                return run
    raise InvalidValueError(
        f'`name` must be a run of benchmarks/study/plan.py, but got {name!r}: '
        '`python -m benchmarks.study.run --list` names them')


def make(run: plan.Run) -> Dict[str, Any]:
    """Train, measure, and describe.

    Args:
        run (Run): The run.

    Returns:
        dict: Its row of the results file.
    """
    from mmengine.runner import Runner

    from tcal_det.checkpoint_file import read_checkpoints_safely
    from .measures import measure, measure_teacher

    read_checkpoints_safely()
    started = time.time()
    origin = describe_origin(CODE, PACKAGES)
    cfg = config_of(run)
    os.makedirs(cfg.work_dir, exist_ok=True)
    cfg.dump(f'{cfg.work_dir}/config.py')
    training = cfg.copy()
    # Measured once, after training, and in one way for val and test.
    for key in ('cfg', 'dataloader', 'evaluator'):
        training[f'val_{key}'] = training[f'test_{key}'] = None
    runner = Runner.from_cfg(training)
    runner.train()
    detector = runner.model.eval()
    row = {key: getattr(run, key) for key in SETTINGS}
    row.update(measure(detector, cfg))
    if run.arm == 'teacher':
        row.update(measure_teacher(detector, cfg, run))
    row.update(
        seconds=round(time.time() - started, 1),
        started=datetime.fromtimestamp(started).isoformat(timespec='seconds'),
        **origin)
    return row


def config_of(run: plan.Run):
    """The whole config of a run.

    Args:
        run (Run): The run.

    Returns:
        Config: For a Runner.
    """
    from mmengine.config import Config

    # Registers the loss of the arm 'kd'.
    from . import equal_gradient  # noqa: F401

    cfg = Config.fromfile(run.config)
    cfg.merge_from_dict(dict(run.overrides))
    cfg.train_cfg.update(max_epochs=run.epochs, val_interval=run.epochs)
    cfg.default_hooks.checkpoint.update(interval=run.epochs, max_keep_ckpts=1)
    cfg.default_hooks.logger.interval = 100
    cfg.randomness = dict(seed=run.seed)
    cfg.work_dir = plan.folder_of(run.name)
    return cfg


def main():
    args = parse_args()
    run = find_run(args.name)
    if run.data == 'digits':
        make_digits()
    else:
        make_folds()
    write_json_atomically(f'{plan.folder_of(run.name)}/row.json', make(run))


if __name__ == '__main__':
    run_command(main)
