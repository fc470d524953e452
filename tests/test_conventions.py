"""Files about the project say the same as the project."""
import ast
import json
import math
import os.path as osp
import re
import subprocess
import sys
from glob import glob

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import tcal_det
from tcal_det.requirements_check import REQUIRED
from tests import release_check

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
# A call of make in a shell or a workflow, with its options and targets;
# comments do not count.
MAKE_CALL = re.compile(r'^[^#\n]*?\bmake ((?:[\w./=-]+ ?)+)', flags=re.M)
CHANGELOG = '''# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added

- Something.

## [0.1.0] - 2026-11-21
'''
CITATION = 'cff-version: 1.2.0\nversion: 0.2.0\n'


def read(*path):
    with open(osp.join(ROOT, *path), encoding='utf-8') as file:
        return file.read()


def make_targets():
    return set(re.findall(r'^([a-z-]+):', read('Makefile'), flags=re.M))


def called_targets(*path):
    """Targets of the Makefile that a file calls."""
    return {
        word
        for words in MAKE_CALL.findall(read(*path))
        for word in words.split() if re.fullmatch('[a-z][a-z-]*', word)
    }


def pinned(path):
    """Versions of a requirements file by name."""
    return dict(re.findall(r'^([\w-]+)==(\S+)', read(path), flags=re.M))


@pytest.mark.parametrize(
    'path', ['.ci/run', '.github/workflows/ci.yml', 'CONTRIBUTING.md'])
def test_only_targets_of_the_makefile_are_called(path):
    called = called_targets(path)
    assert called
    assert called - make_targets() == set()


def test_workflow_calls_what_continuous_integration_calls():
    workflow = called_targets('.github', 'workflows', 'ci.yml')
    assert {'lint', 'docs'} < workflow
    assert workflow == called_targets('.ci', 'run')


def test_workflow_has_both_stacks_and_the_first_and_last_python():
    workflow = read('.github', 'workflows', 'ci.yml')
    assert set(re.findall(r'stack: (\w+)', workflow)) == {'classic', 'modern'}
    classifiers = re.findall(r'Python :: 3\.(\d+)', read('pyproject.toml'))
    minors = sorted(map(int, classifiers))
    assert f"python: ['3.{minors[0]}', '3.{minors[-1]}']" in workflow


def test_pre_commit_has_the_versions_of_make_lint():
    hooks = dict(
        re.findall(r"'(\w+)==([^']+)'", read('.pre-commit-config.yaml')))
    versions = pinned('requirements/dev.txt')
    assert hooks == {
        name: versions[name]
        for name in ('ruff', 'isort', 'yapf')
    }


def accepted(name):
    """Versions of a module with which the plugin is imported."""
    _, lowest, too_new = REQUIRED[name]
    return SpecifierSet(f'>={lowest}' + (f',<{too_new}' if too_new else ''))


def test_mminstall_is_what_the_plugin_checks():
    installed = {
        one.name: one.specifier
        for one in map(
            Requirement,
            re.findall(
                r'^\w.*', read('requirements', 'mminstall.txt'), flags=re.M))
    }
    assert installed == {
        name: accepted(name)
        for name in REQUIRED if name != 'torch'
    }


def test_stacks_are_within_what_the_plugin_checks():
    for stack in ('classic', 'modern'):
        versions = pinned(f'requirements/{stack}.txt')
        for name in ('torch', 'mmengine', 'mmdet'):
            found, = (
                versions[one] for one in REQUIRED[name][0] if one in versions)
            assert found in accepted(name)


def test_versions_agree():
    assert release_check.package_version(ROOT) == tcal_det.__version__
    assert release_check.version_problems(tcal_det.__version__,
                                          read('CHANGELOG.md'),
                                          read('CITATION.cff'), []) == []


@pytest.mark.parametrize('tags', [[], ['v0.2.0'], ['before-merge', 'v0.2.0']])
def test_release_without_a_problem(tags):
    assert release_check.version_problems('0.2.0', CHANGELOG, CITATION,
                                          tags) == []


@pytest.mark.parametrize('version, changelog, citation, tags, problems', [
    ('0.3.0', CHANGELOG, CITATION, [], [
        'the newest section of CHANGELOG.md is 0.2.0, but the package is '
        '0.3.0',
        "CITATION.cff has the version ['0.2.0'], but the package is 0.3.0"
    ]),
    ('0.2.0', '# Changelog\n\n## [Unreleased]\n', CITATION, [],
     ['the newest section of CHANGELOG.md is None, but the package is 0.2.0']),
    ('0.2.0', CHANGELOG, 'cff-version: 1.2.0\n', [],
     ['CITATION.cff has the version [], but the package is 0.2.0']),
    ('0.2.0', CHANGELOG, CITATION, ['v0.1.0'],
     ['the commit has the tag v0.1.0, but the package is 0.2.0']),
    ('0.2.0', CHANGELOG.replace('[Unreleased]\n', '[Unreleased]\n\n- New.\n'),
     CITATION, ['v0.2.0'], [
         'the commit has a tag, but "Unreleased" in CHANGELOG.md has entries: '
         'move them to the version'
     ]),
])
def test_contradictions_are_named(version, changelog, citation, tags,
                                  problems):
    assert release_check.version_problems(version, changelog, citation,
                                          tags) == problems


def test_sections_of_a_changelog():
    sections = release_check.changelog_sections(CHANGELOG)
    assert sections == {
        'Unreleased': '',
        '0.2.0': '### Added\n\n- Something.',
        '0.1.0': ''
    }


def test_expected_error_is_that_of_the_golden_file():
    golden = json.loads(read(release_check.GOLDEN, 'det_small.json'))
    value = golden['expected']['dece_tau0.5']['conf_b10_right']['value']
    assert math.isclose(release_check.D_ECE, value, rel_tol=1e-12)


def test_setuptools_that_would_build_a_package_without_a_name_is_refused():
    code = ('import runpy, setuptools; setuptools.__version__ = "60.10.0"; '
            'runpy.run_path("setup.py")')
    done = subprocess.run([sys.executable, '-c', code],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        'error: tcal_det is built with setuptools>=61, but found 60.10.0: '
        "pip install 'setuptools>=61'")


def test_every_ignored_type_error_is_named():
    """`# type: ignore` hides one kind of error, never all."""
    comments = [
        comment for path in glob(
            osp.join(ROOT, 'tcal_det', '**', '*.py'), recursive=True)
        for comment in re.findall('# type: *ignore.*', read(path))
    ]
    assert comments
    assert [one for one in comments if 'ignore[' not in one] == []


def test_every_warning_has_the_class_of_the_package():
    """So users can filter them, and the package silences its own only."""
    calls = [
        (osp.relpath(path, ROOT), node.lineno, node.args[1:]) for path in glob(
            osp.join(ROOT, 'tcal_det', '**', '*.py'), recursive=True)
        for node in ast.walk(ast.parse(read(path)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and node.func.attr == 'warn' and node.func.value.id == 'warnings'
    ]
    assert calls
    assert [(path, line) for path, line, rest in calls
            if not rest or getattr(rest[0], 'id', None) not in (
                'TcalDetWarning', 'ImplausibleDataWarning')] == []
