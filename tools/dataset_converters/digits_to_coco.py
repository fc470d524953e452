"""Compose a COCO-format data set of handwritten digits.

python tools/dataset_converters/digits_to_coco.py --out data/digits
"""
import argparse

from tcal_det.commands import run_command
from tcal_det.datasets import write_digit_scenes


def parse_args():
    parser = argparse.ArgumentParser(
        description='Compose scenes from the digits that scikit-learn bundles')
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--train', type=int, default=600, help='scenes')
    parser.add_argument('--val', type=int, default=100, help='scenes')
    parser.add_argument('--test', type=int, default=300, help='scenes')
    parser.add_argument('--size', type=int, default=160, help='pixels')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    write_digit_scenes(
        args.out,
        dict(train=args.train, val=args.val, test=args.test),
        size=args.size,
        seed=args.seed)


if __name__ == '__main__':
    run_command(main)
