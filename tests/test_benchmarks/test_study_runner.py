"""The study's runner, with trainers that only pretend."""
import json
import os
import os.path as osp
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from mmengine.config import Config

from benchmarks.study import plan
from benchmarks.study.rows import Row, row_of
from benchmarks.study.run_folder import (REPOSITORY, PlannedRun,
                                         collect_records, read_record,
                                         without_finished)
from benchmarks.study.runner import VAL_CONFIG, StudyRunner, config_text
from tcal_det.errors import InvalidValueError

# The runner is frozen with the study's results.
pytestmark = pytest.mark.study
STUDENT = plan.STUDENT
# Counts to 3, one step a file; what it has counted outlives it. Fails where
# the config's seed is 13, and takes a second a step where it is 7.
TRAIN = """
import os, sys, time, json
from mmengine.config import Config
config, work_dir = sys.argv[1], sys.argv[3]
assert sys.argv[2] == '--work-dir' and sys.argv[4] == '--resume'
seed = Config.fromfile(config).randomness.seed
os.makedirs(work_dir + '/20260101_000000/vis_data', exist_ok=True)
if seed == 13:
    sys.exit('loss is nan')
steps = [name for name in os.listdir(work_dir) if name.startswith('step')]
for step in range(len(steps), 3):
    open(f'{work_dir}/step{step}.{os.getpid()}', 'w').close()
    time.sleep(1 if seed == 7 else 0)
    print('step', step, flush=True)
checkpoint = work_dir + '/epoch_3.pth'
open(checkpoint, 'w').close()
with open(work_dir + '/last_checkpoint', 'w') as file:
    file.write(checkpoint)
with open(work_dir + '/20260101_000000/vis_data/scalars.json', 'w') as file:
    file.write(json.dumps({'coco/bbox_mAP': seed / 100, 'step': 3}))
"""
# Its detections are the name of the annotations that they are compared with.
TEST = """
import os, sys, json
from mmengine.config import Config
config, checkpoint, work_dir, out = sys.argv[1:3] + sys.argv[4::2]
assert sys.argv[3::2] == ['--work-dir', '--out']
assert os.path.isfile(checkpoint), checkpoint
cfg = Config.fromfile(config)
split = os.path.basename(cfg.test_dataloader.dataset.ann_file)
assert all(split in evaluator.ann_file for evaluator in cfg.test_evaluator)
session = work_dir + '/20260101_000000/'
os.makedirs(session)
with open(session + '20260101_000000.json', 'w') as file:
    json.dump({'coco/bbox_mAP': 0.5 if split == 'test.json' else 0.9,
               'calib/d_ece': 0.25}, file)
with open(out, 'w') as file:
    file.write(split)
"""


@pytest.fixture
def tools(tmp_path):
    paths = {}
    for name, source in (('train_tool', TRAIN), ('test_tool', TEST)):
        path = tmp_path / f'{name}.py'
        path.write_text(textwrap.dedent(source))
        paths[name] = str(path)
    return paths


def planned(seed, **settings):
    return PlannedRun(f'seeds/baseline/seed{seed}', 'seeds', 'baseline',
                      STUDENT, seed, **settings)


def execute(tmp_path, tools, runs, num_jobs=1, lines=None):
    lines = [] if lines is None else lines
    runner = StudyRunner(
        str(tmp_path / 'study'), num_jobs, report=lines.append, **tools)
    return runner.execute(runs, lambda: None)


def steps_of(tmp_path, seed):
    folder = tmp_path / f'study/seeds/baseline/seed{seed}/train'
    return sorted(
        name.split('.') for name in os.listdir(folder)
        if name.startswith('step'))


@pytest.mark.parametrize('num_jobs', [1, 2])
def test_runs_are_made_once(tmp_path, tools, num_jobs):
    runs = [planned(seed) for seed in (1, 2, 3)]
    assert execute(tmp_path, tools, runs, num_jobs) == []
    records = collect_records(str(tmp_path / 'study'), [])
    assert [row['name'] for row in records] == [run.name for run in runs]
    for row, seed in zip(records, (1, 2, 3)):
        assert row['status'] == 'finished' and row['error'] is None
        assert row['val']['mAP'] == seed / 100
        assert row['test']['mAP'] == 0.5 and row['test']['D-ECE'] == 0.25
        assert row['seed'] == seed and row['config'] == STUDENT
        assert row['attempts'] == 1 and row['wall_time_s'] > 0
        assert set(
            row['stack']) == {'python', 'torch', 'mmcv', 'mmengine', 'mmdet'}
        assert row['commit']
    made = [steps_of(tmp_path, seed) for seed in (1, 2, 3)]
    lines = []
    assert execute(tmp_path, tools, runs, num_jobs, lines) == []
    assert lines == ['3 runs, of which 3 are finished']
    assert [steps_of(tmp_path, seed) for seed in (1, 2, 3)] == made


def test_detections_of_both_splits_are_kept(tmp_path, tools):
    assert execute(tmp_path, tools, [planned(1)]) == []
    for split in ('val', 'test'):
        path = (
            tmp_path / 'study/seeds/baseline/seed1' / split / 'detections.pkl')
        assert path.read_text() == f'{split}.json'
    row, = collect_records(str(tmp_path / 'study'), [])
    # Those of the training's last epoch, and of test.
    assert row['val']['mAP'] == 0.01 and row['test']['mAP'] == 0.5


@pytest.mark.parametrize('config', [plan.STUDENT, plan.BCCD_STUDENT])
def test_detections_on_val_are_made_as_those_on_test(tmp_path, config):
    run = PlannedRun('seeds/x/seed1', 'seeds', 'x', config, 1)
    (tmp_path / 'config.py').write_text(config_text(run, str(tmp_path)))
    (tmp_path / 'val_config.py').write_text(VAL_CONFIG)
    plain, on_val = (
        Config.fromfile(str(tmp_path / name))
        for name in ('config.py', 'val_config.py'))
    assert on_val.test_evaluator == plain.val_evaluator
    for key in ('ann_file', 'data_prefix', 'pipeline', 'metainfo'):
        assert (on_val.test_dataloader.dataset[key] ==
                plain.val_dataloader.dataset[key])
    assert on_val.model == plain.model


def test_a_failing_run_is_reported_and_does_not_stop_the_rest(tmp_path, tools):
    lines = []
    failed, = execute(
        tmp_path, tools,
        [planned(1), planned(13), planned(2)], lines=lines)
    assert failed['name'] == 'seeds/baseline/seed13'
    assert failed['error'] == 'train_tool.py ended with 1: loss is nan'
    assert any('seed13: failed: ' in line for line in lines)
    statuses = {
        row['seed']: row['status']
        for row in collect_records(str(tmp_path / 'study'), [])
    }
    assert statuses == {1: 'finished', 13: 'failed', 2: 'finished'}


def test_reports_do_not_name_the_machines_folders(tmp_path, tools):
    bad = tmp_path / 'bad.py'
    bad.write_text(f'import sys; sys.exit("no {REPOSITORY}/data/bccd")')
    failed, = execute(tmp_path, dict(tools, train_tool=str(bad)), [planned(1)])
    assert failed['error'] == 'bad.py ended with 1: no data/bccd'


def test_a_run_without_metrics_has_failed_and_does_not_stop_the_rest(
        tmp_path, tools):
    silent = tmp_path / 'silent.py'
    silent.write_text('import os, sys; os.makedirs(sys.argv[3])')
    failed = execute(tmp_path, dict(tools, train_tool=str(silent)),
                     [planned(1), planned(2)])
    assert [record['seed'] for record in failed] == [1, 2]
    assert 'no test or validation metrics' in failed[0]['error']


def test_a_failed_run_is_tried_again_and_both_attempts_count(tmp_path, tools):
    for _ in range(2):
        assert len(execute(tmp_path, tools, [planned(13)])) == 1
    row, = collect_records(str(tmp_path / 'study'), [])
    assert row['attempts'] == 2


def test_a_run_is_tested_once_it_is_asked_for(tmp_path, tools):
    execute(tmp_path, tools, [planned(1, is_tested=False)])
    row, = collect_records(str(tmp_path / 'study'), [])
    assert row['status'] == 'finished' and row['test'] is None
    made = steps_of(tmp_path, 1)
    execute(tmp_path, tools, [planned(1)])
    row, = collect_records(str(tmp_path / 'study'), [])
    assert row['test']['mAP'] == 0.5
    assert steps_of(tmp_path, 1) == made


def test_other_settings_under_an_old_name_are_refused(tmp_path, tools):
    execute(tmp_path, tools, [planned(1)])
    with pytest.raises(InvalidValueError, match='seed1.*loss_weight'):
        execute(tmp_path, tools, [planned(1, loss_weight=4.0)])


def test_a_run_whose_folder_is_gone_stays_in_the_results(tmp_path):
    gone = dict(name='seeds/baseline/seed1', status='finished')
    assert collect_records(str(tmp_path), [gone]) == [gone]


def test_a_run_made_again_elsewhere_does_not_replace_the_first(
        tmp_path, tools):
    folder = str(tmp_path / 'study')
    execute(tmp_path, tools, [planned(1)])
    first = collect_records(folder, [])
    shutil.rmtree(folder)
    for _ in range(2):
        execute(tmp_path, tools, [planned(1)])
        row, = both = collect_records(folder, first)
        repeat, = row.pop('repeats')
        assert row == first[0]
        assert repeat['started'] > row['started']
        assert repeat['test'] == row['test']
        # Collected once more, it is still one repeat.
        assert len(collect_records(folder, both)) == 1

    # The first did not finish: the one that did is the row.
    failed = [dict(first[0], status='failed', test=None)]
    row, = collect_records(folder, failed)
    assert row['status'] == 'finished' and row['started'] == repeat['started']
    assert [other['status'] for other in row['repeats']] == ['failed']
    again, = collect_records(folder, [row])
    assert again == row


def test_only_missing_runs_are_those_without_a_finished_row():
    rows = [
        dict(vars(planned(seed)), status=status, test=test)
        for seed, status, test in ((1, 'finished', {}), (2, 'failed', None),
                                   (3, 'finished', None))
    ]
    runs = [planned(seed) for seed in (1, 2, 3, 4)]
    assert without_finished(runs, rows) == runs[1:]
    # A run that is on val only is complete without test.
    on_val = [planned(3, is_tested=False)]
    assert without_finished(on_val, rows) == []
    rows[0]['loss_weight'] = 4.0
    with pytest.raises(InvalidValueError, match='seed1.*loss_weight'):
        without_finished(runs, rows)


def test_jobs_must_be_positive(tmp_path):
    with pytest.raises(InvalidValueError, match='`--jobs` must be >= 1'):
        StudyRunner(str(tmp_path), 0)


STUDY = """
import signal, sys
sys.path.insert(0, {repository!r})
from benchmarks.study.run_folder import PlannedRun
from benchmarks.study.runner import StudyRunner
signal.signal(signal.SIGTERM, signal.default_int_handler)
run = PlannedRun('seeds/baseline/seed7', 'seeds', 'baseline', {student!r}, 7)
StudyRunner({folder!r}, train_tool={train_tool!r},
            test_tool={test_tool!r}).execute([run], lambda: None)
"""


def wait_for(condition, seconds=240):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'waited in vain'
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize('by', ['SIGTERM', 'SIGKILL'])
def test_a_killed_study_goes_on_where_it_was(tmp_path, tools, by):
    folder = str(tmp_path / 'study')
    script = STUDY.format(
        repository=REPOSITORY, student=STUDENT, folder=folder, **tools)
    study = subprocess.Popen([sys.executable, '-c', script],
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    trained = osp.join(folder, 'seeds/baseline/seed7/train')
    wait_for(lambda: osp.isdir(trained) and any(
        name.startswith('step1') for name in os.listdir(trained)))
    trainer = int(steps_of(tmp_path, 7)[0][1])
    study.send_signal(getattr(signal, by))
    assert study.wait() != 0
    lines = []
    if by == 'SIGKILL':
        # The trainer lives on, and nobody else trains beside it.
        skipped, = execute(tmp_path, tools, [planned(7)], lines=lines)
        assert skipped['status'] == 'skipped'
        assert lines[-1].endswith('skipped: another process is at it')
        os.kill(trainer, signal.SIGKILL)
        row, = collect_records(folder, [])
    wait_for(lambda: not osp.exists(f'/proc/{trainer}'))
    row, = collect_records(folder, [])
    assert row['status'] == 'interrupted' and row['wall_time_s'] > 0
    assert execute(tmp_path, tools, [planned(7)]) == []
    steps = steps_of(tmp_path, 7)
    assert [name for name, _ in steps] == ['step0', 'step1', 'step2']
    # What the killed trainer had counted was not counted again.
    assert steps[0][1] == str(trainer) != steps[2][1]
    row, = collect_records(folder, [])
    assert row['status'] == 'finished' and row['attempts'] == 2
    assert len(read_record(osp.dirname(trained))['sessions']) == 4


def results(**sections):
    return dict(
        dict(
            runs=[],
            teachers=[
                dict(name=plan.TEACHER, fitted_temperature=1.25),
                dict(name=plan.FRESH_TEACHER, fitted_temperature=1.3)
            ],
            gradient_scales=[]), **sections)


def test_stages_wait_for_what_they_build_on():
    with pytest.raises(InvalidValueError, match='stage `teachers`'):
        plan.runs_of('grid', dict(runs=[], teachers=[]))
    with pytest.raises(InvalidValueError, match='stage `grid`'):
        plan.runs_of('seeds', results())


def grid_results(best):
    """A grid on which each method is best at one weight."""
    runs = []
    for run in plan.runs_of('grid', results()):
        row = json.loads(json.dumps(vars(run)))
        mean_ap = 0.3 if run.loss_weight == best(run) else 0.2
        runs.append(
            dict(row, status='finished', val=dict(mAP=mean_ap), test=None))
    return runs


@pytest.mark.parametrize(('scores', 'weights'), [
    ({}, [4, 16]),
    ({
        4: 0.2
    }, [4, 16]),
    ({
        4: 0.2,
        16: 0.3
    }, [4, 16, 64]),
    ({
        4: 0.3,
        16: 0.3
    }, [1, 4, 16]),
    ({
        4: 0.2,
        16: 0.3,
        64: 0.1
    }, [4, 16, 64]),
    ({
        4: 0.2,
        16: 0.3,
        64: 0.4
    }, [4, 16, 64]),
])
def test_the_grid_grows_where_the_best_weight_is_at_its_edge(scores, weights):
    assert plan.grid_weights(scores) == weights


def test_seeds_use_the_weights_that_the_grid_chose():
    runs = plan.runs_of(
        'seeds',
        results(
            runs=grid_results(lambda run: 16.0
                              if run.method == 'tcal' else 4.0)))
    assert len(runs) == len({run.name for run in runs}) == 5 * 11
    assert {run.seed for run in runs} == {1, 2, 3, 4, 5}
    for run in runs:
        if run.method != 'baseline':
            assert run.loss_weight == (16.0 if run.method == 'tcal' else 4.0)


def gradient_scales():
    return [
        dict(
            method=method.name,
            temperature=method.temperature,
            fitted=method.fitted,
            rms_gradient=0.4 if method.name == 'kd' else 0.1 + 0.01 * index)
        for index, method in enumerate(plan.methods(1.25))
    ]


def test_equal_gradients_are_equal_to_a_factor_of_two():
    found = results(
        runs=grid_results(lambda run: 4.0), gradient_scales=gradient_scales())
    compared = plan.methods(1.25)
    reference = compared[2]
    assert reference.label == 'tcal-t1.5'
    weights = plan.equal_gradient_weights(found, compared, reference, 4.0)
    assert weights[Row('kd')] == 1.0
    for scale in gradient_scales():
        ratio = weights[row_of(scale)] * scale['rms_gradient'] / (4.0 * 0.12)
        assert 0.5 < ratio < 2
    # All but KD pull equally hard at the weights that the grid chose.
    runs = plan.runs_of('gradient', found)
    assert {
        (run.method, run.temperature): run.loss_weight
        for run in runs
    } == {
        ('kd', None): 1.0,
        ('wttm', None): 4.0,
        ('dkd', None): 4.0,
        ('dkd', 1.5): 4.0
    }
    assert {(run.seed, run.teacher)
            for run in runs} == {(seed, plan.FRESH_TEACHER)
                                 for seed in (6, 7, 8, 9, 10)}


def test_copies_add_to_the_confirmation_what_it_lacks():
    found = results(runs=grid_results(lambda run: 4.0))
    runs = plan.runs_of('copies', found)
    assert {run.loss_weight for run in runs} == {4.0}
    of_one = [run for run in runs if run.teacher == plan.FRESH_TEACHER]
    assert {(run.temperature, run.fitted)
            for run in of_one} == {(0.33, False), (0.5, False), (2.0, False),
                                   (5.0, False), (1.3, True)}
    others = [run for run in runs if run.teacher != plan.FRESH_TEACHER]
    assert {run.temperature for run in others} == {1.0}
    assert len({run.teacher for run in others}) == 5
    assert {run.seed for run in runs} == {6, 7, 8, 9, 10}


def test_confirmation_varies_nothing_but_the_temperature():
    weights = {1.5: 16.0}
    found = results(
        runs=grid_results(lambda run: weights.get(run.temperature, 4.0)))
    runs = plan.runs_of('confirmation', found)
    assert len(runs) == len({run.name for run in runs}) == 10 * 4
    assert {run.loss_weight for run in runs} == {None, 16.0}
    assert {run.temperature for run in runs} == {None, 1.0, 1.5, 3.0}
    # Nothing was chosen with its seeds, nor with its teacher.
    assert not {run.seed for run in runs} & {plan.GRID_SEED, *plan.SEEDS}
    assert {run.teacher for run in runs} == {None, plan.FRESH_TEACHER}
    assert plan.FRESH_TEACHER != plan.TEACHER


@pytest.mark.parametrize(('best', 'weights'), [
    (4.0, [4.0]),
    (16.0, [4.0, 16.0]),
])
def test_bccd_has_the_uncalibrated_teacher_at_the_papers_weight_too(
        best, weights):
    found = results(
        runs=grid_results(lambda run: best if run.temperature == 1.5 else 4.0))
    runs = plan.runs_of('bccd', found)
    assert [
        run.loss_weight for run in runs
        if run.temperature == 1.0 and run.seed == 3
    ] == weights


@pytest.mark.parametrize('stage', plan.STAGES)
def test_every_planned_config_is_one_that_mmengine_reads(stage, tmp_path):
    found = results(
        runs=grid_results(lambda run: 4.0), gradient_scales=gradient_scales())
    runs = plan.runs_of(stage, found)
    assert len({run.name for run in runs}) == len(runs) > 0
    for run in runs[:12]:
        path = tmp_path / 'config.py'
        path.write_text(config_text(run, str(tmp_path)))
        cfg = Config.fromfile(str(path))
        assert cfg.randomness.seed == run.seed
        if run.teacher:
            loss = cfg.model.distill_losses.loss_kd_cls
            assert loss.loss_weight == run.loss_weight
