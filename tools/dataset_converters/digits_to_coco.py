"""Compose a dataset of handwritten digits in the COCO format.

python tools/dataset_converters/digits_to_coco.py --out data/digits
"""

from tcal_det.commands import CommandParser, run_command


def parse_args():
    parser = CommandParser(
        description='Compose scenes from the digits that scikit-learn bundles')
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder to write, which must not exist')
    for split, number in (('train', 600), ('val', 100), ('test', 300)):
        parser.add_argument(
            f'--{split}',
            type=int,
            default=number,
            metavar='N',
            help=f'number of {split} scenes (default: {number})')
    parser.add_argument(
        '--size',
        type=int,
        default=160,
        metavar='PIXELS',
        help='side of a scene in pixels, 64 to 4096 (default: 160)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='random seed of the scenes (default: 0)')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='classes in the order of their categories: digits, and names of '
        'classes without objects; digits that are not named are not annotated '
        '(default: 0 to 9)')
    return parser.parse_args()


def main():
    args = parse_args()
    # Slow to import.
    from digit_scenes import CLASSES, write_digit_scenes
    write_digit_scenes(
        args.out,
        dict(train=args.train, val=args.val, test=args.test),
        size=args.size,
        seed=args.seed,
        classes=args.classes or CLASSES)


if __name__ == '__main__':
    run_command(main)
