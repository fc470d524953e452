"""The one look at the spread that the plan allows: no mean, no arm.

    python -m benchmarks.study.blind_spread

Prints how far paired differences in mAP scatter, pooled over all pairs of
arms of block A, and nothing that tells one arm from another.
"""
from collections import Counter

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError
from .contrasts import spread_of
from .rows import KEYS, read_existing_rows

RESULTS = 'benchmarks/study/results.jsonl'
# From here on, runs of blocks C and D go to the arms of claim 1.
LIMIT = 1.4
# The plan allows one look, when so many seeds are complete.
NUM_SEEDS = 10


def parse_args():
    parser = CommandParser(
        description='Pooled standard deviation of paired differences in mAP, '
        'blind to the arms')
    parser.add_argument('--results', default=RESULTS)
    parser.add_argument(
        '--block', default='A', help='letter of the block (default: A)')
    return parser.parse_args()


def main():
    args = parse_args()
    rows = [
        row for row in read_existing_rows('--results', args.results, KEYS)
        if row['block'] == args.block
    ]
    arms = {row['arm'] for row in rows}
    seeds = Counter(row['seed'] for row in rows)
    complete = sum(count == len(arms) for count in seeds.values())
    if complete < NUM_SEEDS:
        raise InvalidValueError(
            f'`--results` must have {NUM_SEEDS} seeds of all arms of block '
            f'{args.block}, but {args.results} has {complete}: make more runs')
    spread = spread_of(rows, args.block)
    relation = 'above' if spread.sd > LIMIT else 'not above'
    print(f'block {args.block}: pooled standard deviation of paired '
          f'differences {spread.sd:.2f} mAP x 100, {relation} {LIMIT} '
          f'({spread.pairs_of_arms} pairs of arms, {spread.freedom} degrees '
          'of freedom)')


if __name__ == '__main__':
    run_command(main)
