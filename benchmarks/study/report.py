"""Put the study's results into its documents: tables and figure.

    python -m benchmarks.study.report
    python -m benchmarks.study.report --check

Fills every block ``<!-- study:NAME -->`` ... ``<!-- /study:NAME -->`` of
docs/evidence/study.md and README.md, and draws study.png and
study_classifiers.png in docs/images. What has not been run yet says so. With
``--check`` nothing is written, and the exit status is 1 if a document is not
what the results say.
"""
import os.path as osp
import sys
from typing import Any, Dict, List, Mapping

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import MissingFileError
from tcal_det.fileio import write_text_atomically
from .answers import answers_table, short_list
from .contrasts import SECONDARY, SOFTMAX_REAL
from .markdown import fill_blocks
from .rows import KEYS, Row, read_existing_rows
from .tables import (arms_table, contrast_tables, focal_table, power_table,
                     primary_table, runs_table, teachers_table)

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
FOLDER = 'benchmarks/study'
SHORT_NOTE = (
    'Differences x 100 on test with 95 % intervals; D-ECE is a calibration '
    'error, better when lower. "Yes" and "no" on mAP are corrected for three '
    'comparisons, so an interval above 0 may be not settled; "equivalent" '
    'and secondary verdicts are not corrected. The study has the power of '
    'each.')


def parse_args():
    parser = CommandParser(
        description='Tables and figure of the study, from its results')
    parser.add_argument(
        '--results',
        default=osp.join(REPOSITORY, FOLDER, 'results.jsonl'),
        help='rows of the detectors')
    parser.add_argument(
        '--classifier-results',
        default=osp.join(REPOSITORY, FOLDER, 'classifier_results.jsonl'),
        help='rows of the classifiers')
    parser.add_argument(
        '--documents',
        nargs='+',
        metavar='FILE',
        default=[
            osp.join(REPOSITORY, name)
            for name in ('docs/evidence/study.md', 'README.md')
        ],
        help='Markdown files with blocks')
    parser.add_argument(
        '--figures',
        default=osp.join(REPOSITORY, 'docs/images'),
        help='folder of study.png and study_classifiers.png')
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit with 1 if a document is not up to date')
    return parser.parse_args()


def planned_blocks() -> Mapping[str, Any]:
    """The blocks of the plan, whose import takes seconds."""
    from .plan import BLOCKS
    return BLOCKS


def interim_note(rows: List[Row], planned: Mapping[str, Any]) -> str:
    """A warning for as long as runs of the plan are missing.

    Args:
        rows (list[dict]): Rows of the detectors.
        planned (Mapping[str, Block]): Blocks of the plan.
    """
    names = {run.name for block in planned.values() for run in block.runs}
    done = len(names & {row['name'] for row in rows})
    if done == len(names):
        return ''
    return (f'**Interim: {done} of {len(names)} runs are complete.** Answers '
            'may change with the others: the results are published as they '
            'come, and of such looks before the end more than 5 % err.\n\n')


def make_blocks(rows: List[Row], classifiers: List[Row]) -> Dict[str, str]:
    """Markdown of all blocks.

    Args:
        rows (list[dict]): Rows of the detectors.
        classifiers (list[dict]): Rows of the classifiers.

    Returns:
        dict[str, str]: Text by the name of its block.
    """
    # Imports torch.
    from .classifiers.analysis import headline, tables
    planned = planned_blocks()
    interim = interim_note(rows, planned)
    return dict(
        tables(classifiers),
        answers=f'{interim}{answers_table(rows)}\n\nClassifiers: '
        f'{headline(classifiers)}',
        short=f'{interim}{short_list(rows)}\n- Classifiers: '
        f'{headline(classifiers)}\n\n{SHORT_NOTE}',
        primary=primary_table(rows),
        secondary=contrast_tables(rows, [
            contrast
            for contrast in SECONDARY if contrast.side.block not in 'FS'
        ]),
        focal=focal_table(rows),
        softmax_real=contrast_tables(rows, SOFTMAX_REAL),
        arms=arms_table(rows),
        power=power_table(rows),
        teachers=teachers_table(rows),
        runs=runs_table(rows, planned))


def _read(path: str) -> str:
    if not osp.isfile(path):
        raise MissingFileError(
            f'`--documents` must be files, but {path} does not exist')
    # newline='': line ends outside the blocks stay what they are.
    with open(path, encoding='utf-8', newline='') as file:
        return file.read()


def main():
    args = parse_args()
    rows = read_existing_rows('--results', args.results, KEYS)
    classifiers = read_existing_rows('--classifier-results',
                                     args.classifier_results, ('name', 'kind'))
    blocks = make_blocks(rows, classifiers)
    # All documents are read before the first is written.
    texts = {path: _read(path) for path in args.documents}
    filled = {
        path: fill_blocks(text, blocks, path)
        for path, text in texts.items()
    }
    stale = [path for path in texts if texts[path] != filled[path]]
    if args.check:
        for path in stale:
            print(
                f'{path} is not what the results say: call '
                '`python -m benchmarks.study.report`',
                file=sys.stderr)
        sys.exit(1 if stale else 0)
    for path, text in filled.items():
        if path in stale:
            write_text_atomically(path, text)
        print(f'{path}: {"filled" if path in stale else "unchanged"}')
    from tcal_det.visualization import save_figure
    from .classifiers.figure import classifier_figure
    from .figure import study_figure
    figures = dict(study=study_figure(rows))
    if classifiers:
        figures['study_classifiers'] = classifier_figure(classifiers)
    for name, figure in figures.items():
        path = osp.join(args.figures, f'{name}.png')
        save_figure(figure, path)
        print(path)


if __name__ == '__main__':
    run_command(main)
