"""Do the distributions of this commit install and run where nothing else is?

``make release-check`` calls this with the Pythons to try. It exports the
commit, compares the version with the changelog, CITATION.cff and the tag,
packs a source distribution and a wheel, checks their metadata, and installs
each into an empty environment of each Python, where a command explains
itself and evaluates a file.

Leaves the distributions in build/release/dist.
"""
import argparse
import json
import math
import os
import os.path as osp
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from glob import glob
from typing import Dict, List, Sequence

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
GOLDEN = osp.join('tests', 'data', 'golden')
# D-ECE of the file that is evaluated, by hand: see det_small.json.
D_ECE = 2.23 / 7


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def run(*command: str, **options) -> str:
    """Output of a command.

    Args:
        *command (str): Program and arguments.
        **options: Arguments of ``subprocess.run``.

    Raises:
        SystemExit: If the command fails, with the end of its output.
    """
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        **options)
    if done.returncode:
        end = '\n'.join(done.stdout.splitlines()[-20:])
        raise SystemExit(f'{end}\nerror: exit status {done.returncode} of: '
                         f'{" ".join(command)}')
    return done.stdout


def package_version(sources: str) -> str:
    """Version in tcal_det/version.py, read as text.

    Args:
        sources (str): Root folder of the sources.
    """
    with open(osp.join(sources, 'tcal_det', 'version.py')) as file:
        return re.search("__version__ = '(.+)'", file.read()).group(1)


def changelog_sections(text: str) -> Dict[str, str]:
    """Body of each section of the changelog by its name, in their order.

    Args:
        text (str): Content of CHANGELOG.md.

    Returns:
        dict[str, str]: 'Unreleased' or a version number to the text below
        its heading.
    """
    parts = re.split(r'^## \[(.+?)\].*$', text, flags=re.M)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2])}


def version_problems(version: str, changelog: str, citation: str,
                     tags: Sequence[str]) -> List[str]:
    """What contradicts the version of the package.

    Args:
        version (str): Version of the package, e.g. '0.1.0'.
        changelog (str): Content of CHANGELOG.md.
        citation (str): Content of CITATION.cff.
        tags (Sequence[str]): Tags of the commit. Those of versions begin
            with v; others are ignored.

    Returns:
        list[str]: One sentence for each contradiction; empty if there is
        none.
    """
    problems = []
    sections = changelog_sections(changelog)
    newest = next((name for name in sections if name != 'Unreleased'), None)
    if newest != version:
        problems.append(f'the newest section of CHANGELOG.md is {newest}, but '
                        f'the package is {version}')
    cited = re.findall(r'^version: (.+)$', citation, flags=re.M)
    if cited != [version]:
        problems.append(f'CITATION.cff has the version {cited}, but the '
                        f'package is {version}')
    tags = [tag for tag in tags if re.match(r'v\d', tag)]
    if tags and tags != [f'v{version}']:
        problems.append(f'the commit has the tag {", ".join(tags)}, but the '
                        f'package is {version}')
    if tags and sections.get('Unreleased'):
        problems.append('the commit has a tag, but "Unreleased" in '
                        'CHANGELOG.md has entries: move them to the version')
    return problems


def export_commit(folder: str) -> str:
    """Copy what is committed, and nothing else, into a new folder.

    Args:
        folder (str): Folder that will hold the copy.

    Returns:
        str: Root folder of the copy.
    """
    if run('git', 'status', '--porcelain', cwd=ROOT):
        say('note: changes that are not committed are not packed')
    archive = osp.join(folder, 'sources.tar')
    run('git', 'archive', '--output', archive, 'HEAD', cwd=ROOT)
    sources = osp.join(folder, 'sources')
    with tarfile.open(archive) as file:
        file.extractall(sources)
    return sources


def make_distributions(sources: str, out: str, folder: str) -> List[str]:
    """Pack a source distribution, a wheel from it, and check their metadata.

    Args:
        sources (str): Root folder of the sources.
        out (str): Folder for the distributions; what it holds is removed.
        folder (str): Folder for the environment of the packers.

    Returns:
        list[str]: Paths of wheel and source distribution.
    """
    shutil.rmtree(out, ignore_errors=True)
    venv = osp.join(folder, 'packers')
    run(sys.executable, '-m', 'venv', venv)
    python = osp.join(venv, 'bin', 'python')
    run(python, '-m', 'pip', '--disable-pip-version-check', 'install', '-r',
        osp.join(ROOT, 'requirements', 'release.txt'))
    run(python, '-m', 'build', '--outdir', out, sources)
    made = sorted(glob(osp.join(out, '*')), reverse=True)
    say(
        run(python, '-m', 'twine', '--no-color', 'check', '--strict',
            *made).strip())
    return made


def try_distribution(distribution: str, python: str, version: str,
                     sources: str) -> None:
    """Install into an empty environment and run what a user runs first.

    Args:
        distribution (str): Path of a wheel or a source distribution.
        python (str): Interpreter of the new environment.
        version (str): Version that the package must report.
        sources (str): Root folder of the sources, for the evaluated file.

    Raises:
        SystemExit: If a command fails or a result is wrong.
    """
    environment = {
        name: value
        for name, value in os.environ.items() if name != 'PYTHONPATH'
    }
    with tempfile.TemporaryDirectory() as folder:
        options = dict(cwd=folder, env=environment)
        run(python, '-m', 'venv', 'venv', **options)
        programs = osp.join(folder, 'venv', 'bin')
        run(
            osp.join(programs, 'python'), '-m', 'pip',
            '--disable-pip-version-check', 'install', distribution, **options)
        found = run(
            osp.join(programs, 'python'), '-c',
            'import tcal_det; print(tcal_det.__version__)', **options).strip()
        if found != version:
            raise SystemExit(f'error: the installed package is {found}, but '
                             f'must be {version}')
        evaluate = osp.join(programs, 'tcal-eval')
        if not run(evaluate, '--help', **options).startswith('usage:'):
            raise SystemExit('error: tcal-eval --help shows no usage')
        run(evaluate, osp.join(sources, GOLDEN, 'det_small_gt.json'),
            osp.join(sources, GOLDEN, 'det_small_dt.json'), '--out',
            'out.json', **options)
        with open(osp.join(folder, 'out.json')) as file:
            d_ece = json.load(file)['overall']['d_ece']
        if not math.isclose(d_ece, D_ECE, rel_tol=1e-12):
            raise SystemExit(f'error: D-ECE must be {D_ECE}, but is {d_ece}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        'pythons', nargs='+', help='interpreters of the environments')
    parser.add_argument(
        '--out',
        default=osp.join('build', 'release', 'dist'),
        help='folder for the distributions')
    args = parser.parse_args()
    out = osp.abspath(args.out)
    with tempfile.TemporaryDirectory() as folder:
        sources = export_commit(folder)
        version = package_version(sources)
        texts = []
        for name in ('CHANGELOG.md', 'CITATION.cff'):
            with open(osp.join(sources, name), encoding='utf-8') as file:
                texts.append(file.read())
        tags = run('git', 'tag', '--points-at', 'HEAD', cwd=ROOT).split()
        problems = version_problems(version, *texts, tags)
        if problems:
            raise SystemExit('\n'.join(f'error: {one}' for one in problems))
        say(f'== version {version}: package, CHANGELOG.md and CITATION.cff '
            f'agree; tags of the commit: {", ".join(tags) or "none"}')
        if changelog_sections(texts[0]).get('Unreleased'):
            say('note: "Unreleased" in CHANGELOG.md has entries: this commit '
                'is not a release')
        say('== packing')
        distributions = make_distributions(sources, out, folder)
        for python in args.pythons:
            name = run(python, '-V').strip()
            for distribution in distributions:
                start = time.time()
                say(f'== {name}: {osp.basename(distribution)}')
                try_distribution(distribution, python, version, sources)
                say(f'   installed and run in {time.time() - start:.0f} s')
    say(f'== ready: {out}')


if __name__ == '__main__':
    main()
