"""Put the study's results into its document: tables and figures.

    python benchmarks/study/report.py

Fills every block ``<!-- study:NAME -->`` ... ``<!-- /study:NAME -->`` of
docs/study.md and README.md and draws docs/images/study_*.png, all from the
results file. What has not been run yet says so.
"""
import argparse
import json
import os.path as osp
import sys
from typing import Any, Dict

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
# Runs from a checkout, as a script.
sys.path.insert(0, REPOSITORY)

from benchmarks.study.figures import FIGURES  # noqa: E402
from benchmarks.study.markdown import fill_blocks  # noqa: E402
from benchmarks.study.tables import TABLES  # noqa: E402
from tcal_det.commands import run_command  # noqa: E402
from tcal_det.errors import InvalidValueError, MissingFileError  # noqa: E402
from tcal_det.fileio import write_text_atomically  # noqa: E402
from tcal_det.visualization import save_figure  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(
        description='Tables and figures of the study from its results file')
    parser.add_argument(
        '--results',
        default=osp.join(REPOSITORY, 'benchmarks/study/results.json'))
    parser.add_argument('--doc', default=osp.join(REPOSITORY, 'docs/study.md'))
    parser.add_argument(
        '--readme',
        default=osp.join(REPOSITORY, 'README.md'),
        help='may have blocks, too')
    parser.add_argument(
        '--images', default=osp.join(REPOSITORY, 'docs/images'))
    return parser.parse_args()


def read_results(path: str) -> Dict[str, Any]:
    """Runs, teachers and gradients of the study.

    Args:
        path (str): The results file.

    Returns:
        dict: With a list each, empty where the study has not come so far.

    Raises:
        MissingFileError: If there is no such file.
        InvalidValueError: If it does not hold the study's results.
    """
    text = _read(path, '`--results`')
    try:
        results = json.loads(text)
    except ValueError as error:
        raise InvalidValueError(
            f'`--results` must be a JSON file, but {path} is not: {error}')
    if not isinstance(results, dict) or 'runs' not in results:
        raise InvalidValueError(
            '`--results` must be what benchmarks/study/run.py writes, with '
            f'`runs`, but {path} has none')
    return dict(dict(teachers=[], gradient_scales=[]), **results)


def _read(path: str, argument: str) -> str:
    if not osp.isfile(path):
        raise MissingFileError(
            f'{argument} must be a file, but {path} does not exist')
    # newline='': line ends outside the blocks stay what they are.
    with open(path, encoding='utf-8', newline='') as file:
        return file.read()


def main():
    args = parse_args()
    results = read_results(args.results)
    texts = {name: make(results) for name, make in TABLES.items()}
    # All documents are read before the first is written.
    documents = {}
    for path, argument in ((args.doc, '`--doc`'), (args.readme, '`--readme`')):
        text = _read(path, argument)
        documents[path] = text, fill_blocks(text, texts, path)
    for path, (old, new) in documents.items():
        if new != old:
            write_text_atomically(path, new)
        print(f'{path}: {"filled" if new != old else "unchanged"}')
    for name, draw in FIGURES.items():
        path = osp.join(args.images, f'study_{name}.png')
        save_figure(draw(results), path)
        print(path)


if __name__ == '__main__':
    run_command(main)
