"""Convert the published BCCD data set to COCO format.

python tools/dataset_converters/bccd_to_coco.py BCCD --out data/bccd
"""
import argparse

from tcal_det.commands import run_command
from tcal_det.datasets import convert_bccd


def parse_args():
    parser = argparse.ArgumentParser(
        description='BCCD blood cells, from VOC files to COCO')
    parser.add_argument('source', help='the folder BCCD of the data set')
    parser.add_argument('--out', required=True, help='folder to write')
    return parser.parse_args()


def main():
    args = parse_args()
    convert_bccd(args.source, args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run_command(main)
