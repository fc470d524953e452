"""How many changed lines of a folder of the package do its tests notice?

``make mutate FOLDER=losses NUMBER=100 SEED=0`` calls this. mutmut writes
the mutants and runs the tests; this draws the sample, and counts. What the
figures mean, and those of today, stand in docs/contribute/mutation.md.

Writes build/mutation/FOLDER.txt: the score of every module, and each mutant
that no test noticed.
"""
import argparse
import json
import os
import os.path as osp
import random
import shutil
from glob import glob
from pathlib import Path
from typing import Dict, List, NamedTuple

import mutmut.__main__ as mutmut_command
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import (get_mutant_name,
                                       orig_function_and_class_names_from_key)

HERE = osp.dirname(osp.abspath(__file__))
EQUIVALENT = osp.join(HERE, 'data', 'equivalent_mutants.json')


class Folder(NamedTuple):
    """Where the code lies, and the tests that have to notice a change."""
    code: str
    tests: str
    # Read the source text, which mutmut rewrites, or start processes.
    left_out: tuple = ()


FOLDERS = {
    'functional':
    Folder('tcal_det/evaluation/functional',
           'tests/test_evaluation/test_functional',
           ('test_functional_imports.py', )),
    'losses':
    Folder('tcal_det/models/losses', 'tests/test_models/test_losses'),
    'calibrators':
    Folder('tcal_det/models/calibrators',
           'tests/test_models/test_calibrators'),
    'distillers':
    Folder('tcal_det/models/distillers', 'tests/test_models/test_distillers',
           ('test_data_parallel.py', )),
}


class Mutant(NamedTuple):
    """What became of one mutant."""
    name: str
    path: str
    status: str
    diff: str

    @property
    def is_killed(self) -> bool:
        """Whether a test failed, or ran until its time-out."""
        return self.status not in ('survived', 'no tests')


def mutant_names(folder: Folder) -> List[str]:
    """Names of all mutants of a folder, sorted."""
    names = []
    for path in sorted(glob(osp.join(folder.code, '*.py'))):
        with open(path, encoding='utf-8') as file:
            mutated = mutate_file_contents(path, file.read())
        names += [get_mutant_name(Path(path), n) for n in mutated.mutant_names]
    return sorted(names)


def run(folder: Folder, names: List[str]) -> List[Mutant]:
    """Run the folder's tests on each mutant."""
    settings = config()
    settings.only_mutate = [f'{folder.code}/*']
    settings.pytest_add_cli_args_test_selection = [folder.tests] + [
        f'--ignore={folder.tests}/{name}' for name in folder.left_out
    ]
    # What an earlier run found says nothing about today's tests.
    shutil.rmtree('mutants', ignore_errors=True)
    mutmut_command._run(names, max_children=1)

    mutants = []
    for path in sorted(glob(osp.join(folder.code, '*.py'))):
        data = SourceFileMutationData(path=path)
        data.load()
        for name in sorted(set(names) & set(data.exit_code_by_key)):
            status = status_by_exit_code[data.exit_code_by_key[name]]
            diff = get_diff_for_mutant(name, path=path)
            mutants.append(Mutant(name, path, status, diff))
    return mutants


def changed_lines(diff: str) -> Dict[str, str]:
    """The lines that a mutant takes away and brings, on one line each."""
    lines = diff.splitlines()[2:]
    return {
        key: ' '.join(line[1:].strip() for line in lines if line[0] == sign)
        for key, sign in (('old', '-'), ('new', '+'))
    }


def is_equivalent(mutant: Mutant, known: List[Dict[str, str]]) -> bool:
    """Whether somebody looked at this change and found it without effect."""
    change = identity(mutant)
    return any(change.items() <= entry.items() for entry in known)


def identity(mutant: Mutant) -> Dict[str, str]:
    """What is changed, and where; mutmut's numbers move with the code."""
    function, owner = orig_function_and_class_names_from_key(mutant.name)
    return dict(
        module=osp.basename(mutant.path)[:-len('.py')],
        function=f'{owner}.{function}' if owner else function,
        **changed_lines(mutant.diff))


def report(mutants: List[Mutant], known: List[Dict[str, str]]) -> str:
    """Table of modules, then the mutants that no test noticed."""
    survivors = [m for m in mutants if not m.is_killed]
    equivalent = {m.name for m in survivors if is_equivalent(m, known)}
    lines = [
        '| module | mutants | killed | equivalent | score | '
        'without equivalents |', '|---|---|---|---|---|---|'
    ]
    for path in sorted({m.path for m in mutants}) + ['all']:
        rows = [m for m in mutants if path in (m.path, 'all')]
        killed = sum(m.is_killed for m in rows)
        same = sum(m.name in equivalent for m in rows)
        score = 100 * killed / len(rows)
        score_without = 100 * killed / max(len(rows) - same, 1)
        lines.append(f'| {osp.basename(path)} | {len(rows)} | {killed} | '
                     f'{same} | {score:.1f} % | {score_without:.1f} % |')
    for kind, rows in (('Not noticed',
                        [m for m in survivors if m.name not in equivalent]),
                       ('Known to be equivalent',
                        [m for m in survivors if m.name in equivalent])):
        lines += ['', f'{kind}:']
        for mutant in rows:
            lines += ['', f'{mutant.name}: {mutant.status}', mutant.diff]
    return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', choices=FOLDERS, help='Folder to mutate.')
    parser.add_argument(
        '--number',
        default='100',
        help="Mutants drawn at random, or 'all'. Defaults to 100.")
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='Random seed of the draw. Defaults to 0.')
    args = parser.parse_args()
    if args.number != 'all' and not (args.number.isdecimal()
                                     and int(args.number) > 0):
        parser.error("argument --number: must be a number > 0 or 'all', but "
                     f'got {args.number!r}')
    return args


def main() -> None:
    """Draw, run, report."""
    args = parse_args()
    os.chdir(osp.dirname(HERE))
    folder = FOLDERS[args.folder]
    names = mutant_names(folder)
    number = len(names) if args.number == 'all' else int(args.number)
    sample = sorted(
        random.Random(args.seed).sample(names, min(number, len(names))))
    print(f'{folder.code}: {len(sample)} of {len(names)} mutants, '
          f'seed {args.seed}')
    with open(EQUIVALENT, encoding='utf-8') as file:
        known = json.load(file)
    text = report(run(folder, sample), known)
    path = osp.join('build', 'mutation', f'{args.folder}.txt')
    os.makedirs(osp.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'{folder.code}: {len(sample)} of {len(names)} mutants, '
                   f'seed {args.seed}\n\n{text}')
    print(text.split('\n\n')[0])
    print(f'Wrote {path}')


if __name__ == '__main__':
    main()
