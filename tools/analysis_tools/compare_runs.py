"""Print mAP / AP50 / AP75 and calibration of several runs.

python tools/analysis_tools/compare_runs.py BASELINE_DIR WORK_DIR ...
"""
import os.path as osp

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.run_table import as_markdown, as_records, read_run
from tcal_det.fileio import write_json_atomically, write_text_atomically


def parse_args():
    parser = CommandParser(
        description='Print a table of the figures of runs, with differences '
        'to a baseline. The figures are those of the newest test of a run, or '
        'of its last validation if it was not tested, x 100. There are no '
        'differences between a test and a validation.')
    parser.add_argument(
        'work_dirs',
        nargs='+',
        metavar='WORK_DIR',
        help='folder of a run, from tools/train.py or tools/test.py')
    parser.add_argument(
        '--baseline',
        metavar='WORK_DIR',
        help='run to compare with, one of WORK_DIR (default: the first)')
    parser.add_argument(
        '--out',
        help='beginning of the file names OUT.md and OUT.json, to which the '
        'table is also written (default: print only)')
    return parser.parse_args()


def main():
    args = parse_args()
    baseline = args.baseline or args.work_dirs[0]
    paths = [osp.abspath(path) for path in args.work_dirs]
    if osp.abspath(baseline) not in paths:
        raise InvalidValueError(
            '`--baseline` must be one of the given work_dirs, but got '
            f'{baseline!r}')
    index = paths.index(osp.abspath(baseline))
    runs = [read_run(path) for path in args.work_dirs]
    table = as_markdown(runs, index)
    print(table)
    if args.out is not None:
        write_text_atomically(f'{args.out}.md', table + '\n')
        write_json_atomically(f'{args.out}.json', as_records(runs, index))


if __name__ == '__main__':
    run_command(main)
