"""The commands on files, given files of every kind.

Valid files are built from seeds and spoiled: values of other types, missing
keys, huge numbers, wrong nesting, repeated records, truncated and overwritten
bytes, folders for files. Whatever they are given, the commands end with
figures that are finite or null, or with one line that says what is wrong;
which of the two it must be is decided by `valid_files`, which knows nothing
of the package. The order of records changes no figure.

A few hundred files by default; more with, for instance,

    TCAL_FUZZ_EXAMPLES=20000 python -m pytest \
        tests/test_tools/test_fuzz_evaluation.py

which takes five minutes of one core, or more. The files depend on nothing
but that number.
"""
import contextlib
import io
import json
import math
import os
import os.path as osp
import random
import runpy
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tcal_det.commands import one_line_warnings, run_command
from tests.test_tools import valid_files
from tests.test_tools.fuzzed_files import (ODD_OBJECTS, ODD_VALUES,
                                           file_damages, recalibration,
                                           samples_of, seeds, small_scene,
                                           spoiled, spoilings, write_json,
                                           write_pickle)

TOOLS = osp.join(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))), 'tools',
    'analysis_tools')
NUM_EXAMPLES = int(os.environ.get('TCAL_FUZZ_EXAMPLES', 400))

# Options, and whether they are allowed.
EVAL_OPTIONS = st.sampled_from([
    ((), True),
    ((), True),
    ((), True),
    (('--score-thr', '0.5'), True),
    (('--score-thr', 'lrp_optimal'), True),
    (('--score-thr=-1', ), False),
    (('--score-thr', 'nan'), False),
    (('--score-thr', '1e400'), False),
    (('--d-ece-bins', '1'), True),
    (('--d-ece-bins', '1000000000'), False),
    (('--laece-bins', '1000'), True),
    (('--laece-bins=-3', ), False),
    (('--max-dets', '1' + '0' * 30), True),
    (('--max-dets', '1'), True),
    (('--max-dets', '0'), False),
    (('--d-ece-iou-thr', '0'), True),
    (('--laece-iou-thr', '0.999999999999'), True),
    (('--olrp-iou-thr', 'inf'), False),
    (('--olrp-iou-thr', '1e-320'), True),
    (('--zero-iou', 'accept'), True),
])
CLASSES = st.sampled_from([(), (), (), ('class 0', ), ('class 1', 'class 0')])


def fuzz(share):
    """Settings of a test that takes a share of all examples."""
    return settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=max(1, int(share * NUM_EXAMPLES)),
        suppress_health_check=list(HealthCheck))


@pytest.fixture(scope='module')
def command(tmp_path_factory):
    """Run a command in a folder of the module; its status and output."""
    mains = {
        name: runpy.run_path(osp.join(TOOLS, f'{name}.py'))['main']
        for name in ('eval_calibration', 'recalibrate', 'compare_runs')
    }
    folder = tmp_path_factory.mktemp('fuzz')

    def run(name, *args):
        output, errors = io.StringIO(), io.StringIO()
        status = 0
        with mock.patch.object(sys, 'argv', [
                name, *args
        ]), contextlib.redirect_stdout(output), contextlib.redirect_stderr(
                errors), one_line_warnings():
            try:
                run_command(mains[name])
            except SystemExit as exit_:
                status = exit_.code
        lines = errors.getvalue().splitlines()
        told = [line for line in lines if not line.startswith('warning: ')]
        if status == 0:
            assert told == []
            assert 'inf' not in output.getvalue().replace(str(folder), '')
        else:
            assert status == 2, lines
            line, = told
            assert line.startswith('error: ') and len(line) < 2000
        return status

    run.path = lambda name: str(folder / name)
    return run


def read_finite(path):
    """Strict JSON, each of whose numbers is finite."""
    with open(path) as file:
        content = json.load(file, parse_constant=pytest.fail)
    os.remove(path)
    check_finite(content)
    return content


def check_finite(content):
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for one in content:
            check_finite(one)
    elif isinstance(content, float):
        assert math.isfinite(content)


def evaluate(command, ground_truth, results, *options):
    """The report; None if something was wrong with the files."""
    out = command.path('report.json')
    status = command('eval_calibration', ground_truth, results, '--out', out,
                     *options)
    if status:
        assert not osp.exists(out)
        return None
    return read_finite(out)


def assert_same_figures(report, other):
    """To the last digits, in which sums depend on their order."""
    assert other['counts'] == report['counts']
    assert other['overall'] == pytest.approx(
        report['overall'], rel=1e-9, abs=1e-9)


@fuzz(0.4)
@given(
    seed=seeds,
    options=EVAL_OPTIONS,
    classes=CLASSES,
    of_truth=spoilings,
    of_results=spoilings,
    truth_damage=file_damages,
    damage=file_damages,
    place=st.integers(0, 2**16))
@example(0, ((), True), (), [], [], None, None, 0)
def test_evaluation_of_json(command, seed, options, classes, of_truth,
                            of_results, truth_damage, damage, place):
    annotations, results = small_scene(seed)
    paths = command.path('gt.json'), command.path('dt.json')
    write_json(paths[0], spoiled(annotations, of_truth, ODD_VALUES),
               truth_damage, place)
    write_json(paths[1], spoiled(results, of_results, ODD_VALUES), damage,
               place)
    annotations, results = map(valid_files.read, paths)
    options, is_allowed = options
    if classes:
        options = (*options, '--classes', *classes)
    is_valid = (
        is_allowed and valid_files.are_annotations(annotations)
        and valid_files.are_results(results, annotations) and set(classes)
        <= {str(one.get('name'))
            for one in annotations['categories']})
    report = evaluate(command, *paths, *options)
    assert (report is not None) == is_valid
    if not is_valid:
        return
    if not classes:
        assert report['counts']['detections'] == len(results)
        assert report['counts']['images'] == len(annotations['images'])
        assert report['counts']['crowds'] == sum(
            bool(one.get('iscrowd')) for one in annotations['annotations'])
    scores = {(one['image_id'], one['category_id'], one['score'])
              for one in results}
    if len(scores) < len(results):
        # Of equal scores the first in the file is served first.
        return
    rng = random.Random(seed)
    for records in (results, annotations['images'], annotations['categories']):
        rng.shuffle(records)
    write_json(paths[0], annotations, None)
    write_json(paths[1], results, None)
    assert_same_figures(report, evaluate(command, *paths, *options))


CONTAINERS = (list, np.array, torch.tensor)


@fuzz(0.2)
@given(
    seed=seeds,
    container=st.sampled_from(CONTAINERS),
    changes=spoilings,
    damage=file_damages,
    place=st.integers(0, 2**16))
@example(0, torch.tensor, [], None, 0)
def test_evaluation_of_pickles(command, seed, container, changes, damage,
                               place):
    scene = small_scene(seed)
    samples = spoiled(
        samples_of(scene, container), changes, ODD_VALUES + ODD_OBJECTS)
    paths = command.path('gt.json'), command.path('dt.pkl')
    write_json(paths[0], scene[0], None)
    write_pickle(paths[1], samples, damage, place)
    report = evaluate(command, *paths)
    if damage:  # what is left of the pickle is anybody's guess
        return
    assert (report is not None) == valid_files.are_samples(samples, scene[0])
    if changes:
        return
    random.Random(seed).shuffle(samples)
    write_pickle(paths[1], samples, None, place)
    assert_same_figures(report, evaluate(command, *paths))
    # The same detections as a JSON file.
    write_json(command.path('dt.json'), scene[1], None)
    as_json = evaluate(command, paths[0], command.path('dt.json'))
    assert as_json['counts']['detections'] == report['counts']['detections']


FIT_OPTIONS = st.sampled_from([
    ('--method', method, *options)
    for method in ('temperature', 'platt', 'beta', 'isotonic', 'histogram')
    for options in ((), ('--target', 'precision_x_iou'),
                    ('--score-thr', 'lrp_optimal'), ('--classwise', ),
                    ('--iou-thr', '1e-320'), ('--iou-thr', 'nan'))
])


@fuzz(0.15)
@given(
    seed=seeds, options=FIT_OPTIONS, of_truth=spoilings, of_results=spoilings)
def test_fit(command, seed, options, of_truth, of_results):
    annotations, results = small_scene(seed)
    paths = command.path('gt.json'), command.path('dt.json')
    write_json(paths[0], spoiled(annotations, of_truth, ODD_VALUES), None)
    write_json(paths[1], spoiled(results, of_results, ODD_VALUES), None)
    out, calibrated = (
        command.path(name) for name in ('calibration.json', 'new.json'))
    if command('recalibrate', 'fit', *paths, '--out', out, *options):
        assert not osp.exists(out)
        return
    annotations, results = map(valid_files.read, paths)
    assert valid_files.are_annotations(annotations)
    assert valid_files.are_results(results, annotations)
    # What was fitted can be applied to what it was fitted to.
    assert command('recalibrate', 'apply', paths[1], out, '--out',
                   calibrated) == 0
    read_finite(out)
    assert len(read_finite(calibrated)) <= len(results)


@fuzz(0.15)
@given(
    seed=seeds,
    of_calibration=spoilings,
    of_results=spoilings,
    damage=file_damages,
    as_pickle=st.booleans(),
    place=st.integers(0, 2**16))
@example(0, [], [], None, False, 0)
def test_apply(command, seed, of_calibration, of_results, damage, as_pickle,
               place):
    scene = small_scene(seed)
    calibration = command.path('calibration.json')
    write_json(calibration,
               spoiled(recalibration(scene, seed), of_calibration, ODD_VALUES),
               damage, place)
    if as_pickle:
        results = command.path('dt.pkl')
        write_pickle(
            results,
            spoiled(
                samples_of(scene, np.array), of_results,
                ODD_VALUES + ODD_OBJECTS), None, place)
    else:
        results = command.path('dt.json')
        write_json(results, spoiled(scene[1], of_results, ODD_VALUES), None)
    out = command.path('new.json')
    if command('recalibrate', 'apply', results, calibration, '--out', out):
        assert not osp.exists(out)
        assert of_calibration or of_results or damage
        return
    for record in read_finite(out):
        assert 0 <= record['score'] <= 1
    # Its thresholds are read elsewhere too.
    ground_truth = command.path('gt.json')
    write_json(ground_truth, scene[0], None)
    evaluate(command, ground_truth, results, '--score-thr', calibration)


METRICS = {
    'coco/bbox_mAP': 0.5,
    'coco/bbox_mAP_50': 0.75,
    'coco/bbox_mAP_75': math.nan,
    'calib/d_ece': 0.1,
    'calib/lrp_0': 1.0,
    'data_time': 0.1,
    'step': 3
}


@fuzz(0.1)
@given(
    of_test=spoilings,
    of_validation=spoilings,
    damage=file_damages,
    is_tested=st.booleans(),
    place=st.integers(0, 2**16))
def test_runs(command, of_test, of_validation, damage, is_tested, place):
    folders = [command.path(name) for name in ('first', 'second')]
    sessions = [osp.join(folder, '20250101_000000') for folder in folders]
    for session in sessions:
        os.makedirs(osp.join(session, 'vis_data'), exist_ok=True)
    write_json(
        osp.join(sessions[0], '20250101_000000.json'),
        spoiled(METRICS, of_test, ODD_VALUES), damage if is_tested else None,
        place)
    lines = spoiled([dict(loss=1.0, step=1), METRICS], of_validation,
                    ODD_VALUES)
    scalars = osp.join(sessions[1], 'vis_data', 'scalars.json')
    write_json(scalars, lines, damage, place)
    if damage is None and isinstance(lines, list):
        with open(scalars, 'w') as file:
            file.writelines(json.dumps(line) + '\n' for line in lines)
    out = command.path('table')
    if command('compare_runs', *folders, '--out', out) == 0:
        read_finite(f'{out}.json')
        os.remove(f'{out}.md')
    else:
        assert not osp.exists(f'{out}.json')
