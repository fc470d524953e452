"""The word list finds what it is for, on the right line, and nothing else."""
import json
import os.path as osp
import subprocess
import sys

import pytest

from tests import check_prose
from tests.check_prose import DOCSTRING_RULES, PROSE_RULES, findings

# One sentence per rule, in the order of the rules.
PLANTED_PROSE = (
    'A mirrored 2 is no 2.',
    'The scores stay as they are.',
    'It runs all the same.',
    'None was trained so far.',
    'It says whether or no a file exists.',
    'A list in the place of a tuple.',
    'The run ended for want of memory.',
    'The file is not at hand.',
    'Such scores are not to be trusted.',
    'The thread lets go of its tensors.',
    'Part with the other processes.',
    'This leaves the matter alone.',
    'A run that came to grief.',
    'Another process is at it.',
    'It logs what was heard.',
    'The teacher is listened to.',
    'The NaN speaks for itself.',
    'The kernel knows no bfloat16.',
    'The wrapper asks for a GPU.',
    'It tells classes apart.',
    'The change cannot be told.',
    'One image says nothing.',
    'The rule stands here.',
    'Its honest doubts are lost.',
    'Annotated by somebody else.',
    'Weight 16 is worth a try.',
    'It has no part in the result.',
    'Reading taken: the mean.',
    'Adapted: one stage.',
    'Shape shorthand: N images.',
)
PLANTED_FORMS = (
    '        seed (int): Of the sampler.',
    '        names (Dict[str, int]): Label by name.',
    '        value (str | None): Text.',
    '        InvalidTypeError, InvalidValueError: If it is wrong.',
    '    Reference: Kim et al.',
)
GOOD_SENTENCES = '''"""There is no file, and there are no others.

A file that is no longer there is no more than a name. It reads the file as it
is written, so far as possible, and all the same files. Who asked? Whether or
not it knows the classes, all parts stand.

Args:
    seed (int): Random seed of the sampler.
    names (dict[str, int], optional): Label by name. Defaults to None.

Returns:
    dict[str, list[int]]: Labels, or None.

Raises:
    InvalidTypeError: If a name is not a string.
    InvalidValueError: If there is no name.

Reference:
    Kim et al., arXiv 2508.20224.
"""
# There is no name.
MESSAGE = 'a file is no name'
'''


def finds_once(remedy, path, source):
    message, = findings(path, source)
    return message.endswith(f': {remedy}')


@pytest.mark.parametrize(
    'rule, sentence', zip(PROSE_RULES, PLANTED_PROSE), ids=PLANTED_PROSE)
def test_every_rule_of_prose(rule, sentence):
    _, remedy = rule
    assert finds_once(remedy, 'a.md', f'# Page\n\n{sentence}\n')
    assert finds_once(remedy, 'a.py', f'"""{sentence}"""\n')
    assert finds_once(remedy, 'a.py', f'number = 1  # {sentence}\n')
    # Also where a line ends between any two words.
    assert finds_once(remedy, 'a.py',
                      '# ' + sentence.replace(' ', '\n# ') + '\n')


@pytest.mark.parametrize(
    'rule, line', zip(DOCSTRING_RULES, PLANTED_FORMS), ids=PLANTED_FORMS)
def test_every_form_of_docstrings(rule, line):
    _, remedy = rule
    source = f'class A:\n    """Summary.\n\n{line}\n    """\n'
    assert finds_once(remedy, 'a.py', source)
    # A form of docstrings, and not of comments and pages.
    assert findings('a.py', f'# {line}\n') == []


def test_every_rule_has_a_sentence():
    assert len(PLANTED_PROSE) == len(PROSE_RULES)
    assert len(PLANTED_FORMS) == len(DOCSTRING_RULES)


@pytest.mark.parametrize(
    'returned', ('Dict[str, int]: Labels.', 'Tuple[int, List[int]]: Sizes.'))
def test_types_of_returned_values(returned):
    source = f'"""Module.\n\nReturns:\n    {returned}\n"""'
    assert finds_once(DOCSTRING_RULES[1][1], 'a.py', source)


def test_good_sentences():
    assert findings('a.py', GOOD_SENTENCES) == []


def test_code_is_not_prose():
    page = ('Run `a is no b`:\n\n```python\n# a is no b\n```\n\n'
            '    a is no b\n\nBut A is no B.\n')
    assert findings('a.md',
                    page) == [f"a.md:9: 'A is no': {PROSE_RULES[0][1]}"]
    assert findings('a.py', "text = 'a is no b'\n") == []


def test_prose_of_notebooks():
    notebook = json.dumps(
        dict(cells=[
            dict(cell_type='markdown', source=['# Page\n', '\n', 'Good.']),
            dict(cell_type='code', source=['# A is no B.']),
            dict(cell_type='markdown', source=['A is no B.']),
        ]))
    assert findings(
        'a.ipynb', notebook) == [f"a.ipynb:5: 'A is no': {PROSE_RULES[0][1]}"]


def test_lines_of_the_findings():
    source = ('"""Module."""\n\n\ndef a():\n    """Summary.\n\n    A list\n'
              '    is no tuple.\n    """\n    # First line.\n'
              '    # It says nothing.\n    return 1  # as it is\n')
    lines = [message.split(':')[1] for message in findings('a.py', source)]
    assert lines == ['7', '11', '12']


def test_command(tmp_path):
    (tmp_path / 'good.py').write_text('"""There is no file."""\n')
    hidden = tmp_path / '.mim' / 'tools'
    hidden.mkdir(parents=True)
    (hidden / 'a.py').write_text('"""A is no B."""\n')

    def run():
        return subprocess.run([sys.executable, check_prose.__file__, tmp_path],
                              stdout=subprocess.PIPE,
                              universal_newlines=True)

    result = run()
    assert (result.returncode, result.stdout) == (0, '')
    (tmp_path / 'bad.md').write_text('A is no B.\n')
    result = run()
    assert result.returncode == 1
    assert result.stdout.endswith(
        f"bad.md:1: 'A is no': {PROSE_RULES[0][1]}\n")
    assert result.stdout.count('\n') == 1


def test_paths_exist():
    for path in (*check_prose.PATHS, *check_prose.FROZEN):
        assert osp.exists(osp.join(check_prose.ROOT, path)), path
