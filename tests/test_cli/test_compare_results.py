"""tcal-compare, in this process."""
import json
import os
import pickle
import subprocess
import sys

import pytest

from tcal_det.cli import compare_results
from tcal_det.evaluation.bootstrap import (RESAMPLED_FIGURES,
                                           bootstrap_figures,
                                           compare_detections)
from tests.image_scenes import all_figures, arrays_of, image_scene

ANNOTATIONS, RESULTS = image_scene(3, num_images=20)
LOWER = [dict(result, score=result['score'] / 2) for result in RESULTS]
FEWER = RESULTS[::8]


@pytest.fixture
def files(tmp_path):
    """Paths of the annotations and of three results files."""
    paths = {}
    annotations = dict(
        ANNOTATIONS,
        images=[
            dict(
                image,
                weather='sun' if number % 2 else 'rain',
                altitude=number)
            for number, image in enumerate(ANNOTATIONS['images'])
        ])
    for name, content in (('gt', annotations), ('a', RESULTS), ('b', LOWER),
                          ('c', FEWER)):
        path = tmp_path / f'{name}.json'
        path.write_text(json.dumps(content))
        paths[name] = str(path)
    return paths


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command; its exit status, output and error output."""

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['tcal-compare', *args])
        status = 0
        try:
            compare_results.main()
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def report(run, tmp_path):
    """What the command writes to its file."""

    def read(*args):
        out = tmp_path / 'new' / 'out.json'
        status, read.output, stderr = run(*args, '--out', str(out))
        assert status == 0, stderr
        # Without NaN, which is not JSON.
        return json.loads(out.read_text(), parse_constant=pytest.fail)

    return read


def plain(figures):
    """As in a JSON file."""
    return {
        key: {
            name: None if value != value else value
            for name, value in one.to_dict().items()
        }
        for key, one in figures.items()
    }


def test_file_has_what_the_library_gives(report, files):
    found = report(files['gt'], files['a'], files['b'], files['c'],
                   '--num-resamples', '50', '--seed', '4', '--confidence',
                   '.9')
    assert list(found) == [
        'settings', 'files', 'results', 'differences', 'slices'
    ]
    assert found['files'] == [files['a'], files['b'], files['c']]
    assert found['slices'] == {}
    settings = found['settings']
    assert (settings['num_resamples'], settings['seed'],
            settings['confidence']) == (50, 4, .9)
    assert settings['ground_truth'] == files['gt']
    ground_truth, reference = arrays_of(ANNOTATIONS, RESULTS)
    options = dict(num_resamples=50, seed=4, confidence=.9)
    for number, results in enumerate((RESULTS, LOWER, FEWER)):
        detections = arrays_of(ANNOTATIONS, results)[1]
        entry = found['results'][number]
        assert entry['figures'] == plain(
            bootstrap_figures(ground_truth, detections, **options))
        assert entry['counts']['detections'] == len(results)
        if number:
            assert found['differences'][number - 1] == plain(
                compare_detections(ground_truth, reference, detections,
                                   **options))
    assert found['results'][0]['figures']['d_ece']['value'] == pytest.approx(
        all_figures(ANNOTATIONS, RESULTS)['d_ece'])


def test_table_shows_figures_and_marks(report, files):
    found = report(files['gt'], files['a'], files['b'], '--num-resamples',
                   '100')
    lines = report.output.splitlines()
    assert lines[0].startswith('20 images, ')
    assert lines[1] == f'A: {len(RESULTS)} detections, {files["a"]}'
    assert lines[2] == f'B: {len(RESULTS)} detections, {files["b"]}'
    assert lines[3].split() == ['A', 'B', 'B', '-', 'A', '95', '%', 'interval']
    assert len(lines) == 4 + len(RESAMPLED_FIGURES) + 1
    for key, line in zip(RESAMPLED_FIGURES, lines[4:]):
        one = found['differences'][0][key]
        assert f'{one["a"]:.4f}' in line and f'{one["b"]:.4f}' in line
        assert f'[{one["low"]:+.4f}, {one["high"]:+.4f}]' in line
        excludes_zero = one['low'] > 0 or one['high'] < 0
        assert ('*' in line) == excludes_zero
        if excludes_zero:
            # All that differ here are better when lower.
            assert ('better' in line) == (one['difference'] < 0)
    assert sum('*' in line for line in lines) >= 2
    # Halved scores keep their order.
    assert lines[4].split() == [
        'mAP', *2 * [f'{found["differences"][0]["mAP"]["a"]:.4f}'], '+0.0000',
        '[+0.0000,', '+0.0000]'
    ]


def test_fewer_detections_have_a_lower_ap(report, files):
    report(files['gt'], files['a'], files['c'], '--num-resamples', '100')
    line = next(line for line in report.output.splitlines()
                if line.startswith('AP50'))
    assert line.endswith('* worse')


def test_one_file_has_intervals_and_no_differences(report, files):
    found = report(files['gt'], files['a'], '--num-resamples', '40')
    assert found['differences'] == [] and len(found['results']) == 1
    assert ' - ' not in report.output
    one = found['results'][0]['figures']['brier']
    assert (f'Brier score           {one["value"]:.4f}   [{one["low"]:.4f}, '
            f'{one["high"]:.4f}]') in report.output


def test_slices(report, files):
    found = report(files['gt'], files['a'], files['b'], '--num-resamples',
                   '40', '--slice', 'weather', 'altitude:4,9.5')
    assert list(found['slices']) == ['weather', 'altitude']
    rain, sun = found['slices']['weather']
    assert (rain['value'], sun['value']) == ('rain', 'sun')
    assert rain['images'] == sun['images'] == 10
    assert [(row['value'], row['images'])
            for row in found['slices']['altitude']] == [('<= 4', 5),
                                                        ('(4, 9.5]', 5),
                                                        ('> 9.5', 10)]
    ids = {image['id'] for image in ANNOTATIONS['images'][::2]}
    ground_truth, a = arrays_of(
        dict(
            ANNOTATIONS,
            images=ANNOTATIONS['images'][::2],
            annotations=[
                one for one in ANNOTATIONS['annotations']
                if one['image_id'] in ids
            ]), [one for one in RESULTS if one['image_id'] in ids])
    assert rain['results'][0]['figures'] == plain(
        bootstrap_figures(ground_truth, a, num_resamples=40))
    assert f'weather rain: 10 images, {rain["objects"]} objects' in (
        report.output)
    assert len(rain['differences']) == 1


def test_attribute_in_a_file_of_its_own(report, files, tmp_path):
    first = ANNOTATIONS['images'][0]['id']
    path = tmp_path / 'camera.json'
    path.write_text(json.dumps({str(first): 7}))
    found = report(files['gt'], files['a'], '--num-resamples', '40', '--slice',
                   str(path))
    assert [(row['value'], row['images'])
            for row in found['slices'][str(path)]] == [(7, 1), (None, 19)]
    assert f'{path} none: 19 images' in report.output
    # One image says nothing of others.
    assert found['slices'][str(
        path)][0]['results'][0]['figures']['lrp_0']['low'] is None


def test_score_threshold_and_classes(report, files):
    found = report(files['gt'], files['a'], '--num-resamples', '40',
                   '--score-thr', '0.5', '--classes', 'class 4')
    assert found['settings']['score_thr'] == .5
    counts = found['results'][0]['counts']
    assert counts['classes'] == 1
    assert counts['dropped'] == sum(
        one['score'] < .5 and one['category_id'] == 4 for one in RESULTS)


def test_without_a_file(run, files):
    status, output, _ = run(files['gt'], files['a'], files['b'],
                            '--num-resamples', '40')
    assert status == 0 and 'written' not in output


MISTAKES = dict(
    missing_results=(['{gt}', '{a}', 'no.json'], "results 'no.json' does not"),
    missing_annotations=(['no.json', '{a}'], "ground truth 'no.json' does"),
    annotations_as_results=(['{gt}', '{gt}'], '`results` must be a list'),
    few_resamples=(['--num-resamples',
                    '20'], '`--num-resamples` must be >= 40'),
    negative_seed=(['--seed', '-1'], '`--seed` must be >= 0'),
    whole_confidence=(['--confidence', '1'], '`confidence` must be in (0, 1)'),
    no_workers=(['--workers', '0'], '`--workers` must be >= 1'),
    unknown_class=(['--classes', 'horse'], "but got 'horse'"),
    score_thr=(['--score-thr', 'high'], '`--score-thr` must be'),
    unknown_field=(['--slice', 'moon'],
                   '(altitude, file_name, height, id, weather, width)'),
    missing_attribute=(['--slice', 'no.json'], "attribute 'no.json' does not"),
    edges=(['--slice', 'altitude:1,,2'], 'ATTRIBUTE:NUMBER,NUMBER'),
    edges_of_texts=(['--slice', 'weather:1'], '`edges` are for attributes'),
    descending_edges=(['--slice', 'altitude:2,1'], '`edges` must be numbers'),
    same_attribute=(['--slice', 'altitude:1',
                     'altitude:2'], 'each attribute once'),
    out_is_a_folder=(['--out', '{folder}'], '`--out` must be a file'),
    many_files=(['{a}'] * 27, '1 to 26 files'),
)


@pytest.mark.parametrize('name', MISTAKES)
def test_mistakes_are_one_line(name, run, files, tmp_path):
    args, message = MISTAKES[name]
    if args[0].startswith('--'):
        args = ['{gt}', '{a}', '{b}', *args]
    elif name == 'many_files':
        args = ['{gt}', *args]
    status, output, stderr = run(*(arg.format(folder=tmp_path, **files)
                                   for arg in args))
    lines = stderr.splitlines()
    assert status == 2 and len(lines) == 1
    assert lines[0].startswith('error: ') and message in lines[0]


def test_results_of_other_images(run, files, tmp_path):
    path = tmp_path / 'others.json'
    path.write_text(json.dumps([dict(RESULTS[0], image_id=12345)]))
    status, _, stderr = run(files['gt'], files['a'], str(path))
    assert status == 2
    assert '`results[0]`: `image_id`' in stderr and '12345' in stderr
    assert 'others.json' in stderr


def test_pickle_of_few_of_the_images_is_told(run, files, tmp_path):
    path = tmp_path / 'few.pkl'
    path.write_bytes(pickle.dumps([]))
    status, _, stderr = run(files['gt'], files['a'], str(path),
                            '--num-resamples', '40')
    assert status == 0
    assert 'results are of 0 of the 20 images' in stderr


def test_help_is_there_at_once(files):
    """Without torch or matplotlib, and with every default."""
    code = ('import sys; sys.argv = ["tcal-compare", "--help"]\n'
            'from tcal_det.cli.compare_results import main\n'
            'try:\n    main()\n'
            'finally:\n'
            '    slow = {"torch", "mmengine", "matplotlib", "sklearn"}\n'
            '    print(sorted(slow & set(sys.modules)))')
    output = subprocess.run([sys.executable, '-c', code],
                            env=dict(
                                os.environ,
                                PYTHONPATH=os.pathsep.join(sys.path[1:])),
                            stdout=subprocess.PIPE,
                            check=True,
                            universal_newlines=True).stdout
    assert output.splitlines()[-1] == '[]'
    assert ' '.join(output.split()).count('(default: ') == 20
