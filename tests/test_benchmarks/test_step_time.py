"""The step-time benchmark on tiny models: what it says, not how fast."""
import json
import os.path as osp
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config

from benchmarks.step_time import __main__ as command
from benchmarks.step_time import tables, workers
from benchmarks.step_time.comparison import (compare, compare_methods,
                                             measure_growth)
from benchmarks.step_time.variants import VARIANTS
from benchmarks.step_time.workload import Case, Workload
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import write_json_atomically


@pytest.fixture
def case(distiller_cfg, tmp_path):
    path = str(tmp_path / 'distiller.py')
    Config(dict(model=distiller_cfg())).dump(path)
    return Case(path, (64, 96), 2, rois_per_image=16, num_classes=5)


@pytest.fixture
def dense_case(tmp_path):
    """RetinaNets so narrow that the logits are their largest tensors."""
    cfg = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').model
    cfg.backbone.update(depth=18, base_channels=4)
    cfg.neck.update(in_channels=[4, 8, 16, 32], out_channels=8)
    cfg.bbox_head.update(in_channels=8, feat_channels=8, stacked_convs=1)
    student = dict(
        cfg,
        type='tcal_det.CalibratedTeacherDistiller',
        student_type='RetinaNet',
        teacher=dict(
            config=dict(model=cfg),
            checkpoint='auto',
            calibrator=dict(type='PlattScaling', load_from='not_there.json')),
        distill_losses=dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss')))
    path = str(tmp_path / 'dense_distiller.py')
    Config(dict(model=student)).dump(path)
    return Case(path, (128, 160), 2, num_classes=40)


def silent(_):
    pass


@pytest.mark.parametrize('variant', ['ours', 'naive'])
def test_losses_of_the_student_are_the_plain_ones(case, variant):
    workload = Workload(case)
    expected, losses = (
        VARIANTS[name](workload)(0)() for name in ('plain', variant))
    assert losses['loss_kd_cls'] > 0
    for key in set(expected) - {'loss'}:
        assert torch.equal(losses[key], expected[key]), key


def test_teacher_as_ours_gives_the_logits_of_the_teacher(case):
    workload = Workload(case)
    expected = VARIANTS['teacher'](workload)(0)()
    assert [len(one) for one in expected] == [2 * 16]
    assert expected[0].shape[1] == 5 + 1
    torch.testing.assert_close(
        VARIANTS['teacher_as_ours'](workload)(0)(),
        expected,
        rtol=1e-4,
        atol=1e-5)


def test_teacher_is_timed_on_the_batch_that_is_asked_for(case):
    prepare = VARIANTS['teacher'](Workload(case))
    first, second = prepare(0), prepare(1)
    assert torch.equal(first()[0], first()[0])
    assert not torch.equal(first()[0], second()[0])


def test_one_step_is_taken_before_the_clock_starts(case, monkeypatch):
    events = []

    class Connection:
        seeds = [0, None]

        def recv(self):
            return self.seeds.pop(0)

        def send(self, answer):
            events.append(sorted(answer))

    def variant(_):
        return lambda seed: lambda: events.append(seed)

    monkeypatch.setitem(VARIANTS, 'plain', variant)
    workers.process_requests(Connection(), 'plain', case)
    assert events == [0, [], 0, ['seconds'], 0, ['logits', 'peak', 'step']]


def test_comparison(case, tmp_path):
    figures = compare(case, 2, silent)
    assert set(VARIANTS) | {'limit', 'ratio', 'over_plain'} <= set(figures)
    assert figures['limit'] == figures['plain'] + figures['teacher_as_ours']
    assert figures['ratio'] == figures['ours'] / figures['limit']
    assert figures['over_plain'] == figures['ours'] / figures['plain']
    run = {name for name in VARIANTS if figures[name] is not None}
    assert run | {'mmrazor'} == set(VARIANTS)
    assert set(figures['unavailable']) == set(VARIANTS) - run
    for name in run:
        lower, upper = figures['quartiles'][name]
        assert 0 < lower <= figures[name] <= upper
        # Each has its own process.
        assert figures['memory'][name] > figures['step_memory'][name] > 0

    path = str(tmp_path / 'times.json')
    write_json_atomically(path, figures)
    with open(path) as file:
        assert json.load(file)['ours'] == figures['ours']
    table = tables.comparison_table(
        {'a->b': {
            '64x96': dict(figures, amp=figures)
        }})
    assert '| a->b | 2 of 64x96, AMP |' in table
    assert f' {figures["ratio"]:.3f} ' in table


def test_configs_of_methods_can_be_measured():
    configs = command.method_configs()
    assert {'pkd', 'ld', 'igdm', 'tcal'} <= set(map(osp.dirname, configs))
    for path in configs.values():
        Workload(Case(path, (64, 96), 1, rois_per_image=16, num_classes=5))


def test_methods(case):
    (name, figures), = compare_methods({'pkd/a->b': case}, 1, silent)
    limit = figures['plain'] + figures['teacher_as_ours']
    assert figures['ratio'] == figures['ours'] / limit
    assert figures['added_memory'] == (
        figures['step_memory']['ours'] - figures['step_memory']['plain'])
    assert f'| pkd/a->b | {figures["plain"]:.3f} |' in tables.methods_table(
        {name: figures})


def test_dense_detectors(dense_case):
    """Levels of stride 8 to 128 in two images of 128x160, 9 anchors a cell."""
    figures = compare(dense_case, 1, silent)
    assert set(figures['unavailable']) == {'naive', 'mmrazor'}
    cells = 16 * 20 + 8 * 10 + 4 * 5 + 2 * 3 + 1 * 2
    assert figures['logit_memory'] == 4 * 2 * 9 * cells * 40
    added = (figures['step_memory']['ours'] - figures['step_memory']['plain'])
    assert figures['added_memory'] == added
    assert figures['added_logits'] == added / figures['logit_memory']
    table = tables.comparison_table({'a->b': {'128x160': figures}})
    assert 'naive did not run: written for RoI heads' in table


def test_losses_of_a_dense_student_are_the_plain_ones(dense_case):
    workload = Workload(dense_case)
    expected, losses = (
        VARIANTS[name](workload)(0)() for name in ('plain', 'ours'))
    assert losses['loss_kd_cls'] > 0
    for key in set(expected) - {'loss'}:
        assert torch.equal(losses[key], expected[key]), key


def test_memory_of_a_step_is_what_its_tensors_took_at_once():
    kilobyte = 1024
    before = torch.zeros(kilobyte)

    def step():
        for _ in range(3):
            first = torch.ones(3 * kilobyte)
            second = first + 1
            del first, second
        return before.clone()

    # The number 1 is a tensor, too.
    assert workers.step_memory(step, 'cpu') == pytest.approx(
        4 * 6 * kilobyte, abs=64)


def test_growth(case):
    factors, points = zip(*measure_growth(case, dict(
        num_classes=(3, 7)), 1, silent))
    assert factors == ('num_classes', 'num_classes')
    growth = dict(num_classes=points)
    assert [point['value'] for point in growth['num_classes']] == [3, 7]
    for point in growth['num_classes']:
        assert point['over_plain'] == point['ours'] / point['plain']
        assert set(point['memory']) == {'plain', 'ours'}
    assert tables.growth_table(growth).count('num_classes') == 2


@pytest.mark.parametrize('arguments',
                         [['--repeats', '0'], ['--device', 'cuda']])
def test_wrong_arguments_are_named(monkeypatch, arguments):
    monkeypatch.setattr(sys, 'argv', ['step_time', *arguments])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(InvalidValueError, match=f'{arguments[0]} must be'):
        command.main()


def test_what_was_measured_before_a_failure_is_kept(monkeypatch, tmp_path):
    out = tmp_path / 'times.json'
    monkeypatch.setattr(sys, 'argv', [
        'step_time', '--device', 'cpu', '--pairs', 'R101->R18', '--growth',
        '--out',
        str(out)
    ])

    def grow_and_fail(*args):
        yield 'batch_size', dict(value=1, ours=0.5)
        raise RuntimeError('out of memory')

    monkeypatch.setattr(command, 'compare_pair',
                        lambda pair, size, *args: dict(size=size))
    monkeypatch.setattr(command, 'measure_growth', grow_and_fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        command.main()
    report = json.loads(out.read_text())
    assert report['pairs'] == {
        'R101->R18': {
            '256x256': dict(size='small'),
            '800x1344': dict(size='coco'),
        }
    }
    assert report['growth']['batch_size'] == [dict(value=1, ours=0.5)]
