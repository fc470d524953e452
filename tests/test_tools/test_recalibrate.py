"""tools/analysis_tools/recalibrate.py, in this process."""
import json
import pickle

import numpy as np
import pytest
import torch

TOOL = 'analysis_tools/recalibrate.py'
EVAL = 'analysis_tools/eval_calibration.py'


def write_split(folder, seed):
    """Scores of all values, half as often right as they say."""
    rng = np.random.default_rng(seed)
    images = [dict(id=i, width=100, height=100) for i in range(100)]
    annotations, results = [], []
    for image in images:
        for row in range(4):
            record = dict(
                image_id=image['id'],
                category_id=int(rng.choice([9, 5])),
                bbox=[10.0, 20.0 * row, 20.0, 10.0])
            score = rng.uniform(0.05, 1)
            results.append(dict(record, score=score))
            if rng.uniform() < score / 2:
                annotations.append(record)
    folder.mkdir()
    paths = [str(folder / name) for name in ('gt.json', 'dt.json')]
    content = dict(
        images=images,
        categories=[dict(id=9, name='nine'),
                    dict(id=5, name='five')],
        annotations=annotations)
    for path, value in zip(paths, (content, results)):
        with open(path, 'w') as file:
            json.dump(value, file)
    return paths


@pytest.fixture
def splits(tmp_path):
    """Annotations and results of val, then of test."""
    return (*write_split(tmp_path / 'val', 0),
            *write_split(tmp_path / 'test', 1))


@pytest.fixture
def succeed(call_tool):

    def run(tool, *args):
        status, stderr = call_tool(tool, *args)
        assert status == 0, stderr
        return call_tool.output

    return run


@pytest.fixture
def figures(succeed, tmp_path):
    """What the other command says of a results file."""

    def read(ground_truth, results, *options):
        out = str(tmp_path / 'report.json')
        succeed(EVAL, ground_truth, results, '--out', out, *options)
        with open(out) as file:
            return json.load(file)

    return read


@pytest.mark.parametrize('method',
                         ['temperature', 'platt', 'beta', 'isotonic'])
def test_from_val_to_test(method, splits, succeed, figures, tmp_path):
    val_gt, val_dt, test_gt, test_dt = splits
    calibration = str(tmp_path / 'calibration.json')
    calibrated = str(tmp_path / 'calibrated.json')
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration, '--method',
            method)
    output = succeed(TOOL, 'apply', test_dt, calibration, '--out', calibrated)
    assert '400 of 400 detections' in output
    before, after = (
        figures(test_gt, results)['overall']
        for results in (test_dt, calibrated))
    assert before['d_ece_over'] > 0.2
    if method != 'temperature':  # which cannot mend a bias
        assert after['d_ece'] < 0.08
    for key in ('mAP', 'AP50', 'AP75'):
        assert after[key] == before[key]


def test_thresholds_travel_with_the_file(splits, succeed, figures, tmp_path):
    val_gt, val_dt, test_gt, test_dt = splits
    calibration = str(tmp_path / 'calibration.json')
    calibrated = str(tmp_path / 'calibrated.json')
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration, '--score-thr',
            'lrp_optimal', '--classwise')
    succeed(TOOL, 'apply', test_dt, calibration, '--out', calibrated)
    # Before: the same detections, at the thresholds that val chose.
    before = figures(test_gt, test_dt, '--score-thr', calibration)
    after = figures(test_gt, calibrated)
    kept = before['counts']['true_positives'] + before['counts'][
        'false_positives']
    assert after['counts']['detections'] == kept < 400
    assert after['overall']['d_ece'] < before['overall']['d_ece']
    assert after['overall']['lrp_0'] == pytest.approx(
        before['overall']['lrp_0'])


def test_pickle(splits, succeed, tmp_path):
    """Labels count categories in file order: 0 is 9."""
    val_gt, val_dt, _, _ = splits
    calibration, calibrated = (
        str(tmp_path / f'{name}.json') for name in ('one', 'two'))
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration)
    path = tmp_path / 'dump.pkl'
    path.write_bytes(
        pickle.dumps([
            dict(
                img_id=4,
                pred_instances=dict(
                    bboxes=torch.tensor([[1., 2, 4, 8]]),
                    scores=torch.tensor([0.5]),
                    labels=torch.tensor([0])))
        ]))
    succeed(TOOL, 'apply', str(path), calibration, '--out', calibrated)
    with open(calibrated) as file:
        record, = json.load(file)
    assert (record['image_id'], record['category_id'],
            record['bbox']) == (4, 9, [1, 2, 3, 6])
    assert record['score'] == pytest.approx(0.25, abs=0.1)


def test_empty_results_stay_empty(splits, succeed, tmp_path):
    val_gt, val_dt, _, _ = splits
    calibration, calibrated = (
        str(tmp_path / f'{name}.json') for name in ('one', 'two'))
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration)
    empty = tmp_path / 'empty.json'
    empty.write_text('[]')
    succeed(TOOL, 'apply', str(empty), calibration, '--out', calibrated)
    with open(calibrated) as file:
        assert json.load(file) == []


def test_results_of_more_classes(splits, succeed, tmp_path):
    val_gt, val_dt, _, _ = splits
    with open(val_dt) as file:
        results = json.load(file)
    own = tmp_path / 'own.json'
    own.write_text(
        json.dumps([one for one in results if one['category_id'] == 5]))
    fitted = []
    for number, path in enumerate((val_dt, str(own))):
        out = tmp_path / f'{number}.json'
        succeed(TOOL, 'fit', val_gt, path, '--out', str(out), '--classes',
                'five')
        fitted.append(json.loads(out.read_text()))
    assert fitted[0] == fitted[1]
    assert [one['category_id'] for one in fitted[0]['classes']] == [5]


@pytest.fixture
def complaint(call_tool, tmp_path):

    def run(*args):
        out = tmp_path / 'out.json'
        status, stderr = call_tool(TOOL, *args, '--out', str(out))
        assert status == 2 and 'Traceback' not in stderr
        assert not out.exists()
        line, = stderr.splitlines()
        assert line.startswith('error: ')
        return line

    return run


def test_fit_complains(splits, complaint, tmp_path):
    val_gt, val_dt, _, _ = splits
    assert "'gone.json' does not" in complaint('fit', 'gone.json', val_dt)
    assert "'gone.json' does not" in complaint('fit', val_gt, 'gone.json')
    assert '`--score-thr`' in complaint('fit', val_gt, val_dt, '--score-thr',
                                        'best')
    assert '`score_thr`' in complaint('fit', val_gt, val_dt, '--score-thr',
                                      '-1')
    assert '`iou_thr`' in complaint('fit', val_gt, val_dt, '--iou-thr', '1')
    assert "'six'" in complaint('fit', val_gt, val_dt, '--classes', 'six')
    empty = tmp_path / 'empty.json'
    empty.write_text('[]')
    assert 'none counts' in complaint('fit', val_gt, str(empty))


def test_folder_is_checked_before_the_files_are_read(call_tool, tmp_path):
    (tmp_path / 'file').write_text('')
    status, stderr = call_tool(TOOL, 'fit', 'gone.json', 'gone.json', '--out',
                               str(tmp_path / 'file' / 'out.json'))
    assert status == 2 and '`--out` must be in a folder' in stderr


def test_apply_complains(splits, complaint, succeed, tmp_path):
    val_gt, val_dt, _, _ = splits
    assert "'gone.json' does not" in complaint('apply', val_dt, 'gone.json')
    # The arguments are easily swapped.
    assert 'tcal-recalibrate fit' in complaint('apply', val_dt, val_gt)
    calibration = str(tmp_path / 'calibration.json')
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration)
    with open(calibration) as file:
        content = json.load(file)
    content['recalibrator']['values'][0] = 2
    falling = tmp_path / 'falling.json'
    falling.write_text(json.dumps(content))
    line = complaint('apply', val_dt, str(falling))
    assert "falling.json'" in line and '`values[0]` must be in [0, 1]' in line
    assert 'tcal-recalibrate fit' in line
    bad = tmp_path / 'bad.json'
    bad.write_text(
        json.dumps(
            [dict(image_id=1, category_id=6, bbox=[0, 0, 1, 1], score=0.5)]))
    line = complaint('apply', str(bad), calibration)
    assert 'results[0]' in line and '`category_id`' in line and '6' in line


def test_a_wrong_record_is_named_with_its_file(splits, complaint, succeed,
                                               tmp_path):
    val_gt, val_dt, _, _ = splits
    calibration, bad = (
        str(tmp_path / f'{name}.json') for name in ('calibration', 'bad'))
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration)
    with open(val_dt) as file:
        results = json.load(file)
    results[3]['score'] = True
    with open(bad, 'w') as file:
        json.dump(results, file)
    for line in (complaint('apply', bad,
                           calibration), complaint('fit', val_gt, bad)):
        assert '`results[3]`: `score`' in line and f'(in {bad!r})' in line


def test_other_fields_are_valid_json(splits, succeed, tmp_path):
    """Python writes NaN and Infinity, which other readers refuse."""
    val_gt, val_dt, _, _ = splits
    calibration, odd, out = (
        str(tmp_path / f'{name}.json') for name in ('calibration', 'odd', 'o'))
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration)
    record = dict(image_id=1, category_id=5, bbox=[0, 0, 1, 1], score=0.5)
    with open(odd, 'w') as file:
        json.dump([dict(record, area=float('nan'), more=[float('inf'), 2])],
                  file)
    succeed(TOOL, 'apply', odd, calibration, '--out', out)
    with open(out) as file:
        found, = json.load(file, parse_constant=pytest.fail)
    assert found['area'] is None and found['more'] == [None, 2]


def test_a_field_that_is_nested_deeply(splits, succeed, call_tool, tmp_path):
    """How deep is too deep differs between versions and steps."""
    val_gt, val_dt, _, _ = splits
    calibration, odd, out = (
        str(tmp_path / f'{name}.json') for name in ('calibration', 'odd', 'o'))
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', calibration)
    record = ('[{"image_id": 1, "category_id": 5, "score": 0.5, "bbox": '
              '[0, 0, 1, 1], "x": ')
    for depth in (10, 400, 700, 950, 2000, 10**5):
        with open(odd, 'w') as file:
            file.write(f'{record}{"[" * depth}NaN{"]" * depth}}}]')
        status, stderr = call_tool(TOOL, 'apply', odd, calibration, '--out',
                                   out)
        if depth == 10 or status == 0:
            assert status == 0, stderr
        else:
            line, = stderr.splitlines()
            assert status == 2 and line.startswith('error: ')
            assert repr(odd) in line or repr(out) in line


def test_map_that_depends_on_the_size(splits, succeed, complaint, tmp_path):
    val_gt, val_dt, test_gt, test_dt = splits
    stored, out = str(tmp_path / 'size.json'), str(tmp_path / 'new.json')
    succeed(TOOL, 'fit', val_gt, val_dt, '--out', stored, '--method',
            'size_platt')
    line = complaint('apply', test_dt, stored, '--out', out)
    assert 'needs the sizes of the images' in line and '--ground-truth' in line
    succeed(TOOL, 'apply', test_dt, stored, '--out', out, '--ground-truth',
            test_gt)
    with open(test_dt) as before, open(out) as after:
        before, after = json.load(before), json.load(after)
    # Right half as often as they say: all boxes are of one size.
    assert np.mean([one['score'] for one in after]) == pytest.approx(
        np.mean([one['score'] for one in before]) / 2, abs=0.05)
