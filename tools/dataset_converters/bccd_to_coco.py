"""Convert the published BCCD dataset to the COCO format.

python tools/dataset_converters/bccd_to_coco.py BCCD --out data/bccd
"""
import argparse

from tcal_det.commands import run_command


def parse_args():
    parser = argparse.ArgumentParser(
        description='Convert the BCCD blood cells from VOC files to COCO')
    parser.add_argument('source', help='folder BCCD of the dataset')
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder to write, which must not exist')
    return parser.parse_args()


def main():
    args = parse_args()
    # Slow to import.
    from tcal_det.datasets import convert_bccd
    convert_bccd(args.source, args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run_command(main)
