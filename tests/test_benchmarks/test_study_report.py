"""From the study's results to its documents and its picture."""
import json
import os.path as osp
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks.study import report
from benchmarks.study.answers import short_list
from benchmarks.study.contrasts import FOCAL
from benchmarks.study.figure import PANELS, study_figure, title_of
from tcal_det.errors import InvalidValueError, MissingFileError
from tests.study_rows import make_row, two_blocks

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


@pytest.fixture
def rows():
    return two_blocks()


# Command


@pytest.fixture
def command(tmp_path, monkeypatch, rows):
    """Calls the report on documents in a folder of its own."""
    results = tmp_path / 'results.jsonl'
    results.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    classifiers = tmp_path / 'classifiers.jsonl'
    classifiers.write_text('')

    def call(*documents, check=False):
        arguments = [
            '--results',
            str(results), '--classifier-results',
            str(classifiers), '--figures',
            str(tmp_path), '--documents', *map(str, documents)
        ]
        monkeypatch.setattr(sys, 'argv',
                            ['report', *arguments, *['--check'] * check])
        report.main()

    return call


def test_documents_are_filled_and_then_up_to_date(command, tmp_path, rows):
    document = tmp_path / 'study.md'
    document.write_text('<!-- study:short -->\n<!-- /study:short -->\n')
    with pytest.raises(SystemExit) as status:
        command(document, check=True)
    assert status.value.code == 1
    assert not (tmp_path / 'study.png').exists()
    command(document)
    assert short_list(rows) in document.read_text()
    assert (tmp_path / 'study.png').read_bytes()[:4] == b'\x89PNG'
    with pytest.raises(SystemExit) as status:
        command(document, check=True)
    assert status.value.code == 0


def test_a_mistake_in_one_document_leaves_all_as_they_were(command, tmp_path):
    good, bad = tmp_path / 'good.md', tmp_path / 'bad.md'
    good.write_text('<!-- study:short -->\n<!-- /study:short -->\n')
    bad.write_text('<!-- study:short -->\n')
    before = good.read_text()
    with pytest.raises(InvalidValueError, match='bad.md, line 1'):
        command(good, bad)
    assert good.read_text() == before
    with pytest.raises(MissingFileError, match='absent.md does not exist'):
        command(good, tmp_path / 'absent.md')


@pytest.mark.parametrize('option', ['--results', '--classifier-results'])
def test_a_mistyped_results_file_changes_no_document(option, tmp_path,
                                                     monkeypatch):
    document = tmp_path / 'study.md'
    document.write_text('<!-- study:short -->\n<!-- /study:short -->\n')
    monkeypatch.setattr(sys, 'argv', [
        'report', option,
        str(tmp_path / 'resluts.jsonl'), '--documents',
        str(document)
    ])
    with pytest.raises(MissingFileError, match=f'`{option}` must be'):
        report.main()
    assert document.read_text().count('\n') == 2


def test_interim_results_are_called_so(rows):
    block = SimpleNamespace(
        runs=[SimpleNamespace(name=row['name']) for row in rows])
    planned = dict(A=block)
    assert report.interim_note(rows, planned) == ''
    note = report.interim_note(rows[1:], planned)
    assert note.startswith(
        f'**Interim: {len(rows) - 1} of {len(rows)} runs are complete.**')


def test_committed_documents_are_what_the_results_say():
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.study.report', '--check'],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        universal_newlines=True)
    assert done.returncode == 0, done.stderr


def test_classifiers_have_blocks_before_they_have_runs(rows):
    blocks = report.make_blocks(rows, [])
    nothing = 'No classifier is trained yet.'
    assert blocks['classifiers'] == nothing
    assert blocks['answers'].endswith(f'Classifiers: {nothing}')


def test_every_block_stands_on_the_page(rows):
    with open(
            osp.join(REPOSITORY, 'docs/evidence/study.md'),
            encoding='utf-8') as file:
        page = file.read()
    for name in set(report.make_blocks(rows, [])) - {'short'}:
        assert page.count(f'<!-- study:{name} -->') == 1, name


# Picture


def test_every_pair_and_every_interval_is_drawn(rows):
    softmax_real = [
        make_row('S', arm, 1, 0.3 + 0.01 * fold, fold)
        for arm in ('baseline', 'hard', 'kd', 'tcal-t1', 'tcal-t1.5')
        for fold in range(3)
    ]
    figure = study_figure(rows + softmax_real)
    num_pairs = dict(A=8, S=3, F=10)
    for axes, (block, arms, _) in zip(figure.axes, PANELS):
        dots = [
            line for line in axes.get_lines()
            if line.get_markersize() == 3.5 and len(line.get_xdata())
        ]
        assert [len(line.get_xdata())
                for line in dots] == [num_pairs[block]] * (2 * len(arms))
    bars = [
        container.lines[2][0].get_segments()[0][:, 0]
        for container in figure.axes[2].containers
    ]
    expected = FOCAL[0]._replace(reference=FOCAL[0].reference._replace(
        arm='baseline')).estimate(rows)
    # Raw teacher, T = 1.5, then Platt; mAP before D-ECE.
    assert bars[4] == pytest.approx([expected.low, expected.high])


@pytest.mark.parametrize('num_rows', [0, 1, 10])
def test_few_runs_are_drawn_too(rows, num_rows):
    figure = study_figure(rows[:num_rows])
    figure.canvas.draw()
    for axes in figure.axes[:len(PANELS)]:
        assert 'too few pairs' in axes.get_title('left')


@pytest.mark.parametrize(('accuracies', 'errors', 'sentence'), [
    ({
        'kd': 2.0,
        'hard': 1.0
    }, {
        'kd': -1.0,
        'hard': -3.0
    }, 'KD gains most mAP,\n"hard labels" lowers D-ECE most'),
    ({
        'kd': -2.0,
        'hard': -1.0
    }, {
        'kd': 1.0,
        'hard': 0.5
    }, '"hard labels" loses least mAP\nand raises D-ECE least'),
])
def test_titles_say_what_the_means_are(accuracies, errors, sentence):
    assert title_of('Here', accuracies, errors,
                    3) == (f'Here: on average\n{sentence}')
    assert 'too few pairs' in title_of('Here', accuracies, errors, 2)
