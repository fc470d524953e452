"""Compare the time of the calibration figures with COCOeval.

    python -m benchmarks.eval_calibration --out times.json
    python -m benchmarks.eval_calibration --commands --repeats 5
    python -m benchmarks.eval_calibration --growth 500 5000 50000
    python -m benchmarks.eval_calibration --only-tcal-det \
        --classes 1203 --results-per-image 300 --growth 1000 10000

The set has the size of COCO val and is generated from a seed: long-tailed
classes, objects of all sizes, results that are correct, shifted, duplicated or
wrong. The implementations run one after the other, each in its own process, so
that its peak memory is its own. Without `--commands` the time to read JSON is
not measured: the records are already lists of dicts. With `--commands`,
complete commands are timed, including reading and writing of files.
"""
import argparse
import os
import platform

import numpy as np

from tcal_det.commands import CommandParser
from . import tables
from .commands import is_importable, run_commands
from .generated_set import SetSize
from .implementations import run_in_process


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
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
        help='random seed of the generated set (default: %(default)s)')
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
        help='number of results per image (default: %(default)s)')
    parser.add_argument(
        '--commands',
        action='store_true',
        help='time complete commands instead, including reading of files')
    parser.add_argument(
        '--repeats',
        type=int,
        default=1,
        help='number of runs, of which the fastest counts (default: '
        '%(default)s)')
    parser.add_argument(
        '--growth',
        type=int,
        nargs='*',
        metavar='IMAGES',
        help='numbers of images of further sets to time (without '
        'numbers: 500 5000 50000)')
    parser.add_argument(
        '--only-tcal-det',
        action='store_true',
        help='leave out the COCOeval implementations')
    parser.add_argument(
        '--out', metavar='FILE.json', help='JSON file to write')
    args = parser.parse_args()
    for name in ('images', 'repeats', 'classes', 'results_per_image'):
        if getattr(args, name) < 1:
            parser.error(f'`--{name.replace("_", "-")}` must be >= 1, but got '
                         f'{getattr(args, name)}')
    return args


def main() -> None:
    """Run the benchmark, print Markdown, write JSON."""
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
            name: run_in_process(name, size_of_set, args.repeats)
            for name in names
        }
        print(f'{args.images} images, {rows["tcal_det"]["objects"]} objects, '
              f'{rows["tcal_det"]["results"]} results\n')
        print(tables.comparison_table(rows))
    growth = {}
    if args.growth is not None:
        growth = {
            num_images:
            run_in_process('tcal_det-arrays',
                           size_of_set._replace(images=num_images),
                           args.repeats)
            for num_images in args.growth or (500, 5000, 50000)
        }
        print('\n' + tables.growth_table(growth))
    if args.out:
        # Imported late: the measured processes inherit the peak memory of
        # this one.
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
