"""tools/analysis_tools/eval_calibration.py, in this process."""
import json
import os
import os.path as osp
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmdet.evaluation import DumpDetResults

TESTS = osp.dirname(osp.dirname(osp.abspath(__file__)))
GOLDEN = osp.join(TESTS, 'data', 'golden')
TOOL = 'analysis_tools/eval_calibration.py'
TIGHT = dict(rel=0, abs=1e-9, nan_ok=True)


def golden_file(name):
    return osp.join(GOLDEN, f'{name}.json')


@pytest.fixture
def evaluate(call_tool, tmp_path):
    """The report of a results file, or of records."""

    def run(ground_truth, results, *options):
        if not isinstance(results, str):
            path = tmp_path / 'results.json'
            path.write_text(json.dumps(results))
            results = str(path)
        out = tmp_path / 'new' / 'report.json'
        status, stderr = call_tool(TOOL, ground_truth, results, '--out',
                                   str(out), *options)
        assert status == 0, stderr
        run.stderr = stderr
        # Without NaN, which is no JSON.
        return json.loads(out.read_text(), parse_constant=pytest.fail)

    return run


@pytest.fixture
def complaint(call_tool, tmp_path):
    """The one line that a user's mistake gives."""

    def run(ground_truth, results, *options):
        out = tmp_path / 'report.json'
        status, stderr = call_tool(TOOL, ground_truth, results, '--out',
                                   str(out), *options)
        lines = [line for line in stderr.splitlines() if line]
        assert status == 2 and 'Traceback' not in stderr
        assert len(lines) == 1 and lines[0].startswith('error: ')
        assert not out.exists()
        return lines[0]

    return run


def null_for_nan(figures):
    return {
        key: None if value != value else value
        for key, value in figures.items()
    }


@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_golden(name, evaluate, golden, golden_figures):
    report = evaluate(golden_file(f'{name}_gt'), golden_file(f'{name}_dt'))
    assert set(report) == {
        'settings', 'counts', 'overall', 'per_class', 'bins'
    }
    expected = null_for_nan(golden_figures(name))
    assert {
        key: report['overall'][key]
        for key in expected
    } == pytest.approx(expected, **TIGHT)
    reference = golden(f'{name}.json')['reference']['pycocotools']['ap']
    assert reference
    per_class = golden(f'{name}.json')['expected']['laece0_b25']['per_class']
    for row in report['per_class']:
        assert row['laece_0'] == pytest.approx(
            per_class[str(row['category_id'])], **TIGHT)
        assert {'mAP', 'AP50', 'AP75', 'lrp_0', 'name'} <= set(row)


def test_figures_follow_from_the_bins(evaluate):
    report = evaluate(golden_file('det_ties_gt'), golden_file('det_ties_dt'))
    bins = report['bins']['overall']['d_ece']
    error = sum(
        n * abs(confidence - precision) for n, confidence, precision in zip(
            bins['count'], bins['mean_confidence'], bins['mean_target']) if n)
    assert error / sum(bins['count']) == pytest.approx(
        report['overall']['d_ece'], abs=1e-12)


def test_settings_tell_what_was_measured(evaluate):
    report = evaluate(
        golden_file('det_small_gt'), golden_file('det_small_dt'),
        '--score-thr', '0.76', '--d-ece-bins', '20', '--zero-iou', 'accept')
    settings = report['settings']
    assert settings['ground_truth'].endswith('det_small_gt.json')
    assert (settings['score_thr'], settings['d_ece_bins'],
            settings['zero_iou']) == (0.76, 20, 'accept')
    # Kept: .92 TP, .83 FP, .76 TP and 1.0 TP, by hand.
    assert report['overall']['d_ece'] == pytest.approx(
        (abs(.92 - 1) + .83 + abs(.76 - 1)) / 4)


def test_published_convention(evaluate, golden):
    """Disjoint boxes match: what fiveai's figures rest on."""
    report = evaluate(
        golden_file('det_small_gt'), golden_file('det_small_dt'), '--zero-iou',
        'accept')
    reference = golden('det_small.json')['own_in_reference_mode']
    for row in report['per_class'][:2]:
        assert row['laece_0'] == pytest.approx(
            reference['laece0_b25_per_class'][str(row['category_id'])],
            **TIGHT)


def test_optimal_thresholds(evaluate, golden):
    report = evaluate(
        golden_file('det_small_gt'), golden_file('det_small_dt'),
        '--score-thr', 'lrp_optimal')
    expected = golden('det_small.json')['expected']['olrp_tau0']['mean']
    for part in ('loc', 'fp', 'fn'):
        assert report['overall'][f'lrp_0_{part}'] == pytest.approx(
            expected[part], **TIGHT)


@pytest.fixture
def dump(tmp_path, golden):
    """A pickle of det_ties as tools/test.py --out writes it."""

    def write(labels=(1, 2)):
        metric = DumpDetResults(out_file_path=str(tmp_path / 'dump.pkl'))
        results = golden('det_ties_dt.json')
        for image in golden('det_ties_gt.json')['images']:
            mine = [one for one in results if one['image_id'] == image['id']]
            boxes = torch.tensor([one['bbox'] for one in mine],
                                 dtype=torch.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            metric.process({}, [
                dict(
                    img_id=image['id'],
                    pred_instances=dict(
                        bboxes=boxes,
                        scores=torch.tensor([one['score'] for one in mine],
                                            dtype=torch.float64),
                        labels=torch.tensor(
                            [labels.index(one['category_id']) for one in mine],
                            dtype=torch.long)))
            ])
        metric.evaluate(len(metric.results))
        return str(tmp_path / 'dump.pkl')

    return write


def test_mmdet_pickle(evaluate, dump, golden, golden_figures):
    categories = golden('det_ties_gt.json')['categories']
    labels = tuple(one['id'] for one in categories)
    report = evaluate(golden_file('det_ties_gt'), dump(labels))
    expected = null_for_nan(golden_figures('det_ties'))
    assert {
        key: report['overall'][key]
        for key in expected
    } == pytest.approx(expected, **TIGHT)


def test_pickle_of_fewer_classes(evaluate, dump, tmp_path, golden,
                                 golden_figures):
    """A category that the detector does not know would shift its labels."""
    annotations = golden('det_ties_gt.json')
    labels = tuple(one['id'] for one in annotations['categories'])
    names = [one['name'] for one in annotations['categories']]
    annotations['categories'].insert(0, dict(id=77, name='everything'))
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(annotations))
    report = evaluate(str(path), dump(labels), '--classes', *names)
    expected = null_for_nan(golden_figures('det_ties'))
    assert {
        key: report['overall'][key]
        for key in expected
    } == pytest.approx(expected, **TIGHT)


def test_results_of_more_classes(evaluate, complaint, golden, tmp_path):
    """As with COCOeval's catIds, other classes' detections do not count."""
    chosen, other = golden('det_ties_gt.json')['categories']
    results = golden('det_ties_dt.json')
    own = [one for one in results if one['category_id'] == chosen['id']]
    assert 0 < len(own) < len(results)
    options = golden_file('det_ties_gt'), results, '--classes', chosen['name']
    report = evaluate(*options)
    alone = evaluate(options[0], own, *options[2:])
    for key in ('counts', 'overall', 'per_class', 'bins'):
        assert report[key] == alone[key]
    # A category that nobody knows is a mistake still, where it stands.
    path = tmp_path / 'unknown.json'
    path.write_text(json.dumps([dict(own[0], category_id=77)] + results))
    (tmp_path / 'new' / 'report.json').unlink()
    line = complaint(options[0], str(path), *options[2:])
    assert 'results[0]' in line and '77' in line


def test_empty_results(evaluate):
    report = evaluate(golden_file('det_small_gt'), [])
    overall = report['overall']
    for key in ('d_ece', 'd_ece_over', 'laece', 'laece_0', 'laace_0'):
        assert overall[key] is None
    assert overall['lrp_0'] == overall['olrp'] == 1
    assert overall['mAP'] == 0
    assert 'no detection is counted' in evaluate.stderr


def test_plots(evaluate, tmp_path):
    folder = tmp_path / 'figures'
    for results in (golden_file('det_ties_dt'), []):
        evaluate(golden_file('det_ties_gt'), results, '--plot', str(folder))
        assert sorted(os.listdir(folder)) == [
            'position.png', 'reliability_iou.png', 'reliability_precision.png',
            'worst_classes.png'
        ]


RECORD = dict(image_id=1, category_id=1, bbox=[0, 0, 5, 5], score=0.5)


@pytest.mark.parametrize('change, parts', [
    (dict(image_id=99), ['results[1]', '`image_id`', '99']),
    (dict(category_id=2), ['results[1]', '`category_id`', '2']),
    (dict(score=float('nan')), ['results[1]', '`score`', 'nan']),
    (dict(score=1.01), ['results[1]', '`score`', '1.01']),
    (dict(score='0.5'), ['results[1]', '`score`']),
    (dict(bbox=[5, 5, -2, 4]), ['results[1]', '`bbox`', '-2']),
    (dict(bbox=[5, 5, 2]), ['results[1]', '`bbox`']),
    (dict(bbox=[5, 5, 2, float('inf')]), ['results[1]', '`bbox`', 'inf']),
])
def test_bad_record(change, parts, complaint, tmp_path):
    path = tmp_path / 'results.json'
    path.write_text(json.dumps([RECORD, dict(RECORD, **change)]))
    line = complaint(golden_file('det_small_gt'), str(path))
    for part in parts:
        assert part in line


@pytest.mark.parametrize('content, part', [
    ('[{"image_id": 1', 'cannot be read as JSON'),
    ('', 'cannot be read as JSON'),
    ('{"annotations": []}', 'must be a list of records'),
    ('[3]', 'results[0]'),
    ('[' * 10**5, 'cannot be read as JSON'),
    ('[{"image_id": 1}]', '`category_id`'),
])
def test_bad_results_file(content, part, complaint, tmp_path):
    path = tmp_path / 'results.json'
    path.write_text(content)
    assert part in complaint(golden_file('det_small_gt'), str(path))


def test_missing_files(complaint):
    line = complaint('gone.json', golden_file('det_small_dt'))
    assert "ground truth 'gone.json' does not exist" in line
    for name in ('gone.json', 'gone.pkl'):
        line = complaint(golden_file('det_small_gt'), name)
        assert f"results '{name}' does not exist" in line
    line = complaint(golden_file('det_small_gt'), GOLDEN)
    assert 'results must be' in line and f'the folder {GOLDEN!r}' in line


def test_results_in_place_of_ground_truth(complaint):
    line = complaint(golden_file('det_small_dt'), golden_file('det_small_dt'))
    assert '`annotations` must be a dict' in line


@pytest.mark.parametrize(
    'content, part', [
        (b'\x80\x04', 'cannot be unpickled'),
        (pickle.dumps(dict()), 'must hold a list of samples'),
        (pickle.dumps([[[1, 2, 3]]]), 'results[0]'),
        (pickle.dumps([
            dict(
                img_id=1,
                pred_instances=dict(
                    bboxes=torch.zeros(1, 4),
                    scores=torch.zeros(1),
                    labels=torch.tensor([3])))
        ]), 'label must be one of the 3 classes'),
    ],
    ids=['truncated', 'dict', 'no samples', 'unknown label'])
def test_bad_pickle(content, part, complaint, tmp_path):
    path = tmp_path / 'results.pkl'
    path.write_bytes(content)
    line = complaint(golden_file('det_small_gt'), str(path))
    assert part in line and repr(str(path)) in line


def write_samples(path, *samples):
    path.write_bytes(
        pickle.dumps([
            dict(
                img_id=image_id,
                pred_instances=dict(
                    bboxes=torch.tensor([[0., 0, 10, 10]] * len(labels)),
                    scores=torch.full((len(labels), ), 0.5),
                    labels=torch.tensor(labels)))
            for image_id, labels in samples
        ]))
    return str(path)


@pytest.mark.parametrize('samples, parts', [
    ([(1, [0]), (2, [0, -1])], ['`results[1]` (image 2)', '-1 at [1]']),
    ([(1, [0]), (2, [0]), (1, [0])], ['results[0]', 'results[2]', 'image 1']),
    ([(1, [0, 0]), (77, [])], ['results[1]', '`img_id`', 'got 77']),
    ([(1, [0.])], ['`results[0]` (image 1)', 'whole numbers']),
])
def test_predictions_that_cannot_be(samples, parts, complaint, tmp_path):
    path = write_samples(tmp_path / 'results.pkl', *samples)
    line = complaint(golden_file('det_small_gt'), path)
    for part in [*parts, repr(path)]:
        assert part in line


def test_labels_that_end_far_below_the_categories(evaluate, tmp_path, golden):
    """A detector of one class against 8: its class need not be the first."""
    annotations = golden('det_small_gt.json')
    annotations['categories'] += [
        dict(id=100 + k, name=f'other {k}') for k in range(5)
    ]
    ground_truth = tmp_path / 'gt.json'
    ground_truth.write_text(json.dumps(annotations))
    for labels, is_warned in (([0], True), ([3], True), ([4], False)):
        path = write_samples(tmp_path / 'results.pkl', (1, labels))
        evaluate(str(ground_truth), path)
        lines = [one for one in evaluate.stderr.splitlines() if 'label' in one]
        assert len(lines) == is_warned
        if is_warned:
            assert lines[0].startswith('warning: ')
            assert '--classes' in lines[0] and '8 categories' in lines[0]
    path = write_samples(tmp_path / 'results.pkl', (1, [0]))
    evaluate(str(ground_truth), path, '--classes', 'a', 'b', 'c', 'other 0')
    assert '--classes' not in evaluate.stderr


def test_ids_are_compared_exactly(evaluate, golden, tmp_path):
    """As floats 2^53 and 2^53 + 1 are one image."""
    annotations, results = golden('det_ties_gt.json'), golden(
        'det_ties_dt.json')
    expected = evaluate(golden_file('det_ties_gt'), results)
    new_id = {
        image['id']: 2**53 + number
        for number, image in enumerate(annotations['images'])
    }
    for image in annotations['images']:
        image['id'] = new_id[image['id']]
    annotations['images'].append(dict(annotations['images'][0], id=7.0))
    for record in annotations['annotations'] + results:
        record['image_id'] = new_id[record['image_id']]
    ground_truth = tmp_path / 'gt.json'
    ground_truth.write_text(json.dumps(annotations))
    assert evaluate(str(ground_truth),
                    results)['overall'] == expected['overall']


def test_images_that_a_pickle_lacks(evaluate, tmp_path):
    """Unlike a JSON file it has images without detections too."""
    for samples, num_warnings in (([(1, [2])], 1), ([(1, [2]), (2, [])], 0)):
        path = write_samples(tmp_path / 'results.pkl', *samples)
        evaluate(golden_file('det_small_gt'), path)
        lines = [
            line for line in evaluate.stderr.splitlines()
            if 'of 1 of the 2 images' in line and line.startswith('warning: ')
        ]
        assert len(lines) == num_warnings


@pytest.mark.parametrize('where, change, parts', [
    ('results', dict(score=True), ['results[1]', '`score`', 'True']),
    ('results', dict(bbox='1234'), ['results[1]', '`bbox`', "'1234'"]),
    ('annotations', dict(iscrowd=2), ['annotations[1]', '`iscrowd`', '2']),
    ('annotations', dict(bbox=[0, 0, 1e200, 1e200]),
     ['annotations[1]', '`bbox`', '1e+200']),
])
def test_the_file_is_named(where, change, parts, complaint, golden, tmp_path):
    content = dict(
        annotations=golden('det_small_gt.json'),
        results=golden('det_small_dt.json'))
    records = content['results'] if where == 'results' else content[
        'annotations']['annotations']
    records[1].update(change)
    paths = {}
    for name, value in content.items():
        paths[name] = str(tmp_path / f'{name}.json')
        with open(paths[name], 'w') as file:
            json.dump(value, file)
    line = complaint(paths['annotations'], paths['results'])
    for part in [*parts, f'in {paths[where]!r}']:
        assert part in line


@pytest.mark.parametrize('options, part', [
    (['--score-thr', 'best'], '`--score-thr`'),
    (['--score-thr', '1.5'], '`score_thr`'),
    (['--score-thr', 'gone.json'], "'gone.json' does not exist"),
    (['--d-ece-bins', '0'], '`d_ece_bins`'),
    (['--olrp-iou-thr', '1'], '`olrp_iou_thr`'),
    (['--classes', 'zebra'], "'zebra'"),
])
def test_bad_options(options, part, complaint):
    assert part in complaint(
        golden_file('det_small_gt'), golden_file('det_small_dt'), *options)


def test_folder_is_checked_before_the_files_are_read(complaint, tmp_path):
    (tmp_path / 'file').write_text('')
    line = complaint('gone.json', 'gone.json', '--out',
                     str(tmp_path / 'file' / 'report.json'))
    assert '`--out` must be in a folder' in line


def test_needs_neither_torch_nor_mmdet(tmp_path):
    code = (
        'import runpy, sys; sys.argv = ["eval_calibration.py", '
        f'{golden_file("det_small_gt")!r}, {golden_file("det_small_dt")!r}, '
        f'"--out", {str(tmp_path / "report.json")!r}]; '
        f'runpy.run_path({osp.join(osp.dirname(TESTS), "tools", TOOL)!r}, '
        'run_name="__main__"); '
        'heavy = {"torch", "mmdet", "mmengine", "matplotlib", "sklearn"}; '
        'sys.exit(" ".join(heavy & set(sys.modules)) or 0)')
    result = subprocess.run(
        [sys.executable, '-c', code],
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join([osp.dirname(TESTS)] + sys.path[1:])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    assert result.returncode == 0, result.stderr


def test_help_is_complete(call_tool):
    status, stderr = call_tool(TOOL, '--help')
    assert status == 0, stderr
    # An option and its text, up to the next one.
    described = re.split(r'\n  (?=-|[a-z])', call_tool.output)
    options = {
        text.split()[0]: ' '.join(text.split())
        for text in described if text.strip().startswith('--')
    }
    assert len(options) == 18
    for name, text in options.items():
        if name != '--out':
            assert re.search(r' [a-z].{15,} \(default: .+\)$', text), text
    for name, default in (('--d-ece-bins', '10'), ('--laece-bins', '25'),
                          ('--max-dets', '100'), ('--laece-iou-thr', '0.1')):
        assert options[name].endswith(f'(default: {default})')


@pytest.mark.parametrize('option', ['--d-ece-bins', '--laece-bins'])
def test_an_absurd_number_of_bins(option, complaint):
    line = complaint(
        golden_file('det_small_gt'), golden_file('det_small_dt'), option,
        '1000000000')
    assert 'must be in [1, 1000], but got 1000000000' in line


def test_class_probabilities_are_measured_and_written(call_tool, tmp_path):
    """A box on each of three objects; the rows are those of the page's."""
    rows = [[.7, .2, .1], [.6, .3, .1], [.3, .1, .6]]
    annotations = dict(
        images=[dict(id=1, width=100, height=100)],
        categories=[dict(id=4, name='a'),
                    dict(id=9, name='b')],
        annotations=[
            dict(id=1, image_id=1, category_id=4, bbox=[0, 0, 10, 10]),
            dict(id=2, image_id=1, category_id=9, bbox=[50, 0, 10, 10])
        ])
    boxes = [[0, 0, 10, 10], [50, 0, 60, 10], [0, 50, 10, 60]]
    samples = [
        dict(
            img_id=1,
            pred_instances=dict(
                bboxes=np.array(boxes, dtype=np.float64),
                scores=np.array([.7, .6, .3]),
                labels=np.array([0, 0, 0]),
                class_probs=np.array(rows)))
    ]
    gt, pkl = tmp_path / 'gt.json', tmp_path / 'dt.pkl'
    gt.write_text(json.dumps(annotations))
    pkl.write_bytes(pickle.dumps(samples))
    out, written = tmp_path / 'out.json', tmp_path / 'scores.json'
    status, stderr = call_tool(TOOL, str(gt), str(pkl), '--out', str(out),
                               '--class-probabilities', '--write-scores',
                               str(written))
    assert status == 0, stderr
    figures = json.loads(out.read_text())['class_probabilities']
    assert figures['top_label_ece'] == pytest.approx(.5 / 3)
    assert figures['classwise_ece'] == pytest.approx(2.8 / 9)
    assert figures['brier'] == pytest.approx(1.26 / 3)
    assert 'Classwise ECE' in call_tool.output
    assert [one['scores'] for one in json.loads(written.read_text())] == rows
    status, stderr = call_tool(TOOL, str(gt), str(written), '--out', str(out),
                               '--class-probabilities')
    assert status == 0, stderr
    assert json.loads(out.read_text())['class_probabilities'] == figures
