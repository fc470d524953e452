"""Write only the weights of a student, for release.

python tools/model_converters/publish_student.py CHECKPOINT OUT
writes the file OUT with the first characters of its SHA-256 in the name.
"""

from tcal_det.commands import CommandParser, run_command


def parse_args():
    parser = CommandParser(
        description='Write the weights of a detector and its plain mmdet '
        'config, without optimizer, EMA copy, teacher and learnable parts of '
        'losses; mmdet opens the file without tcal_det')
    parser.add_argument(
        'checkpoint', help='checkpoint of a training: a path or a URL')
    parser.add_argument(
        'out', help='file to write; OUT.pth becomes OUT-HASH.pth')
    parser.add_argument(
        '--format',
        choices=('pth', 'safetensors'),
        default='pth',
        help='format of the file (default: pth)')
    return parser.parse_args()


def main():
    args = parse_args()
    # Slow to import.
    from tcal_det.engine.student_checkpoint import publish_student
    path = publish_student(args.checkpoint, args.out, args.format)
    print(f'written: {path}')


if __name__ == '__main__':
    run_command(main)
