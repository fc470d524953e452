"""Write the student's weights alone, for release.

python tools/model_converters/publish_student.py CHECKPOINT OUT
"""
import argparse

from tcal_det.commands import run_command
from tcal_det.engine.student_checkpoint import publish_student


def parse_args():
    parser = argparse.ArgumentParser(
        description='Leave optimizer, EMA copy and learnable parts of losses '
        "behind; what stays has the plain detector's keys")
    parser.add_argument('checkpoint', help='written by training')
    parser.add_argument('out', help='the file to write')
    return parser.parse_args()


def main():
    args = parse_args()
    publish_student(args.checkpoint, args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run_command(main)
