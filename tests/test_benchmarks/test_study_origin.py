"""The commit of a row of results says whether its code was changed."""
import subprocess

import pytest

from benchmarks.study.origin import describe_origin


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = tmp_path / 'code'
    code.mkdir()
    (code / 'run.py').write_text('1\n')
    (code / 'results.jsonl').write_text('')
    for arguments in ('init -q', 'add .',
                      '-c user.name=a -c user.email=a@b commit -qm first'):
        subprocess.run(['git', *arguments.split()], check=True)
    return code


@pytest.mark.parametrize('name, marked', [('results.jsonl', False),
                                          ('run.py', True)])
def test_changed_code_is_marked_and_new_rows_are_not(checkout, name, marked):
    commit = describe_origin(['code'], [])['commit']
    assert commit.isalnum()
    (checkout / name).write_text('2\n')
    assert describe_origin(['code'],
                           [])['commit'] == commit + '+changes' * marked


def test_kind_of_cpu_is_named():
    assert describe_origin([], [])['cpu'].split()
