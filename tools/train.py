"""Train a detector, with the interface of mmdet's ``tools/train.py``.

python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume] ...
"""

from tcal_det.commands import CommandParser, parse_training_args, run_command


def parse_args():
    parser = CommandParser(description='Train a detector')
    parser.add_argument('config', help='train config file')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints (default: `work_dir` of the '
        'config, or work_dirs/CONFIG_NAME if it has none)')
    return parse_training_args(parser)


def main():
    args = parse_args()
    from tcal_det.engine.launching import train
    train(args.config, args, args.work_dir)


if __name__ == '__main__':
    run_command(main)
