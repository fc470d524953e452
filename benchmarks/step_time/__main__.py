"""Compare the time of a distillation step with its lower limit.

    python -m benchmarks.step_time --out times.json
    python -m benchmarks.step_time --pairs 'R101->R18' --sizes small
    python -m benchmarks.step_time --growth --pairs --out growth.json
    python -m benchmarks.step_time --pairs --methods pkd ld --out methods.json

The models are those of configs/tcal with random weights; images and objects
are generated from seeds, so no data is needed. Every variant runs in its own
process, so that its peak memory is its own. The variants run in turn on the
same batches, so that the ratios are valid on a busy machine. Medians in
seconds:

plain            training step of the student alone
teacher          forward pass of the teacher that distillation needs: backbone,
                 neck and head on the student's samples, without gradient
teacher_as_ours  the same forward pass as tcal_det runs it
limit            plain + teacher_as_ours, each timed separately: the time of
                 the work that every distillation has to do
ours             training step of CalibratedTeacherDistiller
ratio            ours / limit, with quartiles over the repetitions
over_plain       ours / plain
naive            training step with the teacher's whole loss and a second run
                 of the student's head; null for one-stage detectors
mmrazor          training step of mmrazor's SingleTeacherDistill, or null

and in bytes:

memory           peak of the process on CPU, of the tensors on CUDA
step_memory      peak of the tensors of a step, in addition to weights and
                 optimizer state
added_memory     step_memory of ours - step_memory of plain
added_logits     added_memory / size of all logits of the student

mmrazor is optional: run pip install --no-deps --target DIR mmrazor, and put
PYTHONPATH=DIR before the command.
"""
import argparse
import os
import os.path as osp
import platform
import sys
from dataclasses import replace
from glob import glob
from typing import Any, Dict, Optional

import torch

from benchmarks import REPOSITORY
from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import write_json_atomically
from . import tables
from .comparison import compare, compare_methods, measure_growth
from .workload import Case

PAIRS = {
    'R101->R50': 'faster-rcnn_r50_fpn_tcal-r101_1x_coco.py',
    'R101->R18': 'faster-rcnn_r18_fpn_tcal-r101_1x_coco.py',
    'R50->MobileNetV2': 'faster-rcnn_mobilenetv2_fpn_tcal-r50_1x_coco.py',
    'RetinaNet R101->R50': 'retinanet_r50_fpn_tcal-r101_1x_coco.py',
    'GFL R101->R50': 'gfl_r50_fpn_tcal-r101_1x_coco.py',
}
# A config of each method: Faster R-CNN R101 -> R50, or GFL R101 -> R50.
METHOD_CONFIGS = ('faster-rcnn_r50_fpn_*-r101_1x_coco.py',
                  'gfl_r50_fpn_*-r101_1x_coco.py')
SIZES = dict(small=(256, 256), coco=(800, 1344))
BATCH_SIZE = dict(
    cpu=dict(small=2, coco=1),
    # The batch size of the configs.
    cuda=dict(small=2, coco=2))
REPETITIONS = dict(cpu=dict(small=5, coco=3), cuda=dict(small=30, coco=30))

GROWTH_PAIR = 'R50->MobileNetV2'
GROWTH = dict(
    batch_size=(1, 2, 4, 8),
    image_size=((128, 128), (256, 256), (384, 384), (512, 512)),
    rois_per_image=(128, 256, 512, 1024),
    num_classes=(20, 80, 365, 1203),
    num_teachers=(1, 2, 3))


def make_case(pair: str, size: str, device: str) -> Case:
    """Make the case of a pair at one of the image sizes."""
    return Case(
        config=osp.join(REPOSITORY, 'configs', 'tcal', PAIRS[pair]),
        image_size=SIZES[size],
        batch_size=BATCH_SIZE[device][size],
        device=device)


def method_configs() -> Dict[str, str]:
    """Return paths of the configs that differ only in their method.

    Returns:
        dict[str, str]: Paths by name of the form 'FOLDER/CONFIG'.
    """
    folder = osp.join(REPOSITORY, 'configs')
    found = {}
    for pattern in METHOD_CONFIGS:
        for path in sorted(glob(osp.join(folder, '*', pattern))):
            name = osp.relpath(path, folder)[:-len('_1x_coco.py')]
            found[name] = path
    return found


def compare_pair(pair: str, size: str, device: str,
                 repeats: Optional[int]) -> Dict[str, Any]:
    """Measure all variants of a pair.

    On CUDA the entry ``amp`` holds the figures in mixed precision.
    """
    case = make_case(pair, size, device)
    repeats = repeats or REPETITIONS[device][size]

    def progress(text: str) -> None:
        show_progress(f'{pair}, {size} images: {text}')

    figures = compare(case, repeats, progress)
    if device == 'cuda':
        figures['amp'] = compare(replace(case, amp=True), repeats, progress)
    return figures


def show_progress(text: str) -> None:
    """Replace the progress line on stderr."""
    print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        prog='python -m benchmarks.step_time',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--pairs',
        nargs='*',
        choices=list(PAIRS),
        default=list(PAIRS),
        help='pairs teacher->student; no names for no pairs (default: all)')
    parser.add_argument(
        '--sizes',
        nargs='+',
        choices=list(SIZES),
        default=list(SIZES),
        help='image sizes: 256x256 (small), COCO\'s 800x1344 (coco) (default: '
        'both)')
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='device of the models; cuda is also measured with AMP (default: '
        'cuda if it is available, else cpu)')
    parser.add_argument(
        '--repeats',
        type=int,
        help='number of steps of each variant (default: 5 for small and 3 for '
        'coco on a CPU, 30 on CUDA)')
    parser.add_argument(
        '--growth',
        nargs='*',
        choices=list(GROWTH),
        help='factors to vary, one at a time (without names: all)')
    parser.add_argument(
        '--methods',
        nargs='*',
        metavar='FOLDER',
        help='folders of configs/ whose R101 -> R50 configs are also '
        'measured, on small images (without names: all)')
    parser.add_argument(
        '--out', metavar='FILE.json', help='JSON file to write')
    return parser.parse_args()


def main() -> None:
    """Run the benchmark, print Markdown, write JSON."""
    args = parse_args()
    known = {osp.dirname(name) for name in method_configs()}
    unknown = sorted(set(args.methods or ()) - known)
    if unknown:
        raise InvalidValueError(
            f'--methods must be folders of {sorted(known)}, but got {unknown}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InvalidValueError('--device must be cpu on a machine without '
                                'a CUDA device, but got cuda')
    if args.repeats is not None and args.repeats < 1:
        raise InvalidValueError(
            f'--repeats must be at least 1, but got {args.repeats}')
    report: Dict[str, Any] = dict(
        device=args.device,
        device_name=(torch.cuda.get_device_name()
                     if args.device == 'cuda' else platform.machine()),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        pairs={pair: {}
               for pair in args.pairs})

    def save() -> None:
        """Write the finished part, so that a killed run loses one point."""
        if args.out:
            write_json_atomically(args.out, report)

    for pair, sizes in report['pairs'].items():
        for size in args.sizes:
            sizes['x'.join(map(str, SIZES[size]))] = compare_pair(
                pair, size, args.device, args.repeats)
            save()
    if args.growth is not None:
        factors = {name: GROWTH[name] for name in args.growth or GROWTH}
        report['growth'] = {factor: [] for factor in factors}
        case = make_case(GROWTH_PAIR, 'small', args.device)
        for factor, point in measure_growth(case, factors, args.repeats or 3,
                                            show_progress):
            report['growth'][factor].append(point)
            save()
    if args.methods is not None:
        report['methods'] = {}
        cases = {
            name:
            Case(
                path,
                SIZES['small'],
                BATCH_SIZE[args.device]['small'],
                device=args.device)
            for name, path in method_configs().items()
            if not args.methods or osp.dirname(name) in args.methods
        }
        for name, figures in compare_methods(
                cases, args.repeats or REPETITIONS[args.device]['small'],
                show_progress):
            report['methods'][name] = figures
            save()
    show_progress('')
    print(f'{args.device} {report["device_name"]}, torch {torch.__version__}, '
          f'{report["threads"]} threads on {report["cores"]} cores')
    if args.pairs:
        print('\n' + tables.comparison_table(report['pairs']))
    if args.methods is not None:
        print('\n' + tables.methods_table(report['methods']))
    if args.growth is not None:
        print(f'\nGrowth, {GROWTH_PAIR}, otherwise 2 images of 256x256, 512 '
              f'RoIs per image, 80 classes:\n\n'
              f'{tables.growth_table(report["growth"])}')
    save()


if __name__ == '__main__':
    run_command(main)
