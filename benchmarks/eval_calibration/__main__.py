"""Time the calibration figures beside COCOeval on a COCO-val-sized set.

    python -m benchmarks.eval_calibration --out times.json
    python -m benchmarks.eval_calibration --commands --repeats 5
    python -m benchmarks.eval_calibration --growth 500 5000 50000
    python -m benchmarks.eval_calibration --only-tcal-det \
        --classes 1203 --results-per-image 300 --growth 1000 10000

The set is made from a seed: long-tailed classes, objects of all sizes,
results that are right, shifted, doubled or plainly wrong. Every contestant
runs in a process of its own, so that its peak memory is its own, one after
the other. Without `--commands` reading JSON is not timed: records start as
lists of dicts, which is what a JSON file is once read. With it, commands are
timed from their start to their end, files read and written included.
"""
import argparse
import os
import platform

import numpy as np

from . import tables
from .commands import is_importable, run_commands
from .contestants import run_apart
from .made_up_set import SetSize


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.eval_calibration',
        description=__doc__.split('\n\n')[0])
    parser.add_argument(
        '--images',
        type=int,
        default=5000,
        help='number of images (default: %(default)s)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the made-up set (default: %(default)s)')
    parser.add_argument(
        '--classes',
        type=int,
        default=80,
        help='number of classes (default: %(default)s)')
    parser.add_argument(
        '--results-per-image',
        type=int,
        default=100,
        metavar='NUM',
        help='results per image (default: %(default)s)')
    parser.add_argument(
        '--commands',
        action='store_true',
        help='time whole commands on files, reading included, instead')
    parser.add_argument(
        '--repeats',
        type=int,
        default=1,
        help='runs of each; the fastest counts (default: '
        '%(default)s)')
    parser.add_argument(
        '--growth',
        type=int,
        nargs='*',
        metavar='IMAGES',
        help='also time sets of these sizes (without '
        'numbers: 500 5000 50000)')
    parser.add_argument(
        '--only-tcal-det',
        action='store_true',
        help='leave out the COCOeval implementations')
    parser.add_argument(
        '--out', metavar='FILE.json', help='write the figures there')
    args = parser.parse_args()
    for name in ('images', 'repeats', 'classes', 'results_per_image'):
        if getattr(args, name) < 1:
            parser.error(f'`--{name.replace("_", "-")}` must be >= 1, but got '
                         f'{getattr(args, name)}')
    return args


def main() -> None:
    """Run everything, print Markdown, write JSON."""
    args = parse_args()
    size_of_set = SetSize(args.images, args.seed, args.classes,
                          args.results_per_image)
    print(f'Python {platform.python_version()}, numpy {np.__version__}, '
          f'{os.cpu_count()} cores; {args.classes} classes\n')
    names = ['tcal_det']
    if not args.only_tcal_det:
        names.append('pycocotools')
        if is_importable('faster_coco_eval'):
            names.append('faster-coco-eval')
    rows, commands = {}, {}
    if args.commands:
        commands = run_commands(size_of_set, args.repeats)
        print(tables.command_table(commands))
    elif not (args.only_tcal_det and args.growth):
        rows = {
            name: run_apart(name, size_of_set, args.repeats)
            for name in names
        }
        print(f'{args.images} images, {rows["tcal_det"]["objects"]} objects, '
              f'{rows["tcal_det"]["results"]} results\n')
        print(tables.comparison_table(rows))
    growth = {}
    if args.growth is not None:
        growth = {
            num_images:
            run_apart('tcal_det-arrays',
                      size_of_set._replace(images=num_images), args.repeats)
            for num_images in args.growth or (500, 5000, 50000)
        }
        print('\n' + tables.growth_table(growth))
    if args.out:
        # Late: processes whose memory is measured inherit the peak of this
        # one.
        from tcal_det.fileio import write_json_atomically
        write_json_atomically(
            args.out,
            dict(
                images=args.images,
                seed=args.seed,
                repeats=args.repeats,
                python=platform.python_version(),
                numpy=np.__version__,
                comparison=rows,
                commands=commands,
                growth=growth))


if __name__ == '__main__':
    main()
