import dataclasses
import json
import os
import runpy
import sys

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tcal_det.errors import InvalidValueError
from tcal_det.models.calibrators import (MaxLogitScaling, TemperatureScaling,
                                         VectorScaling)
from tcal_det.registry import MODELS
from tcal_det.teachers import calibration as teacher_calibration
from tcal_det.teachers.calibration import (calibrate_teacher,
                                           write_teacher_calibration)
from tcal_det.teachers.image_folds import fold_of_image
from tcal_det.teachers.logits import TeacherSamples
from tcal_det.teachers.softmax_measurement import measure_groups

TOOL = os.path.join(
    os.path.dirname(__file__), '../../tools/calibrate_teacher.py')
FILES = [
    'reliability_all.png', 'reliability_background.png',
    'reliability_foreground.png', 'teacher_calibration.json',
    'temperature_sweep.png'
]


def without_foreground(files):
    return [name for name in files if 'foreground' not in name]


def make_samples(num_images=40, rois_per_image=50, sharpness=2.0, seed=0):
    """Mostly background, over-confident by ``sharpness``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal((0, 0, 0, 1.5),
                        1.5,
                        size=(num_images * rois_per_image, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return TeacherSamples(
        logits=(logits * sharpness).astype(np.float32),
        labels=labels,
        image_ids=np.repeat(np.arange(num_images), rois_per_image),
        num_seen=2 * len(labels),
        num_images=num_images)


@pytest.fixture(scope='module')
def calibration():
    return calibrate_teacher(make_samples())


class TestCalibrate:

    def test_recovers_the_sharpness(self, calibration):
        assert calibration.calibrator.temperature == pytest.approx(2, abs=0.1)
        assert calibration.after['all'].nll < calibration.before['all'].nll
        ece = {
            when: getattr(calibration, when)['all'].error.ece
            for when in ('before', 'after')
        }
        assert ece['before'] > 0.1 and ece['after'] < 0.03

    def test_fitted_to_all_and_cross_fitted_by_image(self, calibration):
        samples = make_samples()
        whole = TemperatureScaling().fit(samples.logits, samples.labels)
        assert calibration.calibrator.temperature == whole.temperature
        first, second = (
            fold.temperature for fold in calibration.fold_calibrators)
        assert first != second
        assert min(first, second) < whole.temperature < max(first, second)

    def test_after_is_measured_on_images_that_were_not_fitted(
            self, calibration, monkeypatch):
        samples = make_samples()
        fold = fold_of_image(samples.image_ids, 40, seed=0)[samples.image_ids]
        held_out_of = [fold == 0, fold == 1]
        calibrated = np.zeros_like(samples.logits)
        for held_out in held_out_of:
            images = set(samples.image_ids[held_out])
            fitted_images = set(samples.image_ids[~held_out])
            assert len(images) == len(fitted_images) == 20
            assert not images & fitted_images
            fitted = TemperatureScaling().fit(samples.logits[~held_out],
                                              samples.labels[~held_out])
            calibrated[held_out] = (
                samples.logits[held_out] / np.float32(fitted.temperature))
        expected = measure_groups(calibrated, samples.labels)
        for group, measured in calibration.after.items():
            assert measured.nll == pytest.approx(expected[group].nll, rel=1e-6)

    def test_temperature_leaves_accuracy_and_groups(self, calibration):
        for group in ('all', 'foreground', 'background'):
            before, after = (
                getattr(calibration, when)[group]
                for when in ('before', 'after'))
            assert after.accuracy == before.accuracy
            assert after.error.num_samples == before.error.num_samples

    def test_groups_are_those_of_the_predicted_class(self):
        logits = np.array([[9., 0, 0], [0, 9., 0], [0, 0, 9.], [0, 0, 9.]])
        groups = measure_groups(logits, np.array([0, 2, 2, 1]))
        assert {
            name: (group.error.num_samples, group.accuracy)
            for name, group in groups.items()
        } == dict(
            all=(4, .5), foreground=(2, .5), background=(2, .5))

    def test_figures_of_a_group_are_its_samples(self):
        samples = make_samples()
        probs = softmax(samples.logits.astype(np.float64), axis=1)
        measured = measure_groups(samples.logits, samples.labels)['all']
        is_label = samples.labels[:, None] == np.arange(4)
        assert measured.nll == pytest.approx(-np.log(probs[is_label]).mean())
        assert measured.brier == pytest.approx(
            ((probs - is_label)**2).sum(axis=1).mean())
        assert measured.error.over - measured.error.under == pytest.approx(
            probs.max(axis=1).mean() - measured.accuracy)

    def test_sweep_passes_through_before_and_is_lowest_at_the_fit(
            self, calibration):
        sweep = calibration.sweep
        assert sweep['temperature'][0] == 0.5
        assert sweep['temperature'][-1] == 5
        one = int(np.argmin(np.abs(np.array(sweep['temperature']) - 1)))
        before = calibration.before['all']
        assert sweep['nll'][one] == pytest.approx(before.nll, abs=1e-12)
        assert sweep['ece'][one] == pytest.approx(before.error.ece, abs=1e-12)
        lowest = sweep['temperature'][int(np.argmin(sweep['nll']))]
        assert abs(lowest - calibration.calibrator.temperature) <= 0.1
        assert np.add(sweep['over'],
                      sweep['under']) == pytest.approx(sweep['ece'])

    def test_softening_shows_where_after_is_measured(self, calibration):
        softer = calibrate_teacher(make_samples(), softening=1.5)
        assert softer.calibrator.temperature == (
            calibration.calibrator.temperature)
        under = softer.after['all'].error.under
        assert under > calibration.after['all'].error.under + 0.02
        assert softer.to_dict()['effective_temperature'] == (
            1.5 * calibration.calibrator.temperature)

    def test_objective(self):
        samples = make_samples()
        by_ece = calibrate_teacher(samples, objective='ece')
        assert by_ece.objective == 'ece'
        assert by_ece.calibrator.temperature == TemperatureScaling().fit(
            samples.logits, samples.labels, objective='ece').temperature

    def test_vector_scaling(self, calibration):
        by_vector = calibrate_teacher(make_samples(), 'VectorScaling')
        assert isinstance(by_vector.calibrator, VectorScaling)
        assert by_vector.after['all'].nll < by_vector.before['all'].nll
        assert 'effective_temperature' not in by_vector.to_dict()

    def test_max_logit_scaling(self, calibration):
        """Fitted, and worse than a temperature all the same."""
        samples = make_samples()
        scaled = calibrate_teacher(samples, 'MaxLogitScaling')
        assert scaled.calibrator.to_json_dict() == MaxLogitScaling().fit(
            samples.logits, samples.labels).to_json_dict()
        before, after = scaled.before['all'], scaled.after['all']
        assert after.accuracy == before.accuracy
        assert after.nll > calibration.after['all'].nll
        assert 'effective_temperature' not in scaled.to_dict()

    def test_seed_deals_the_images(self, calibration):
        other = calibrate_teacher(make_samples(), seed=1)
        assert other.calibrator.temperature == (
            calibration.calibrator.temperature)
        assert other.fold_calibrators[0].temperature != (
            calibration.fold_calibrators[0].temperature)

    @pytest.mark.parametrize('options, message', [
        (dict(calibrator='PlattScaling'), '`calibrator` must be'),
        (dict(objective='mse'), '`objective` must be'),
        (dict(softening=0.0), '`softening` must be in'),
        (dict(calibrator='VectorScaling', softening=2.0), 'no softening'),
        (dict(calibrator='VectorScaling', objective='ece'), "objective 'nll'"),
        (dict(calibrator='MaxLogitScaling', softening=2.0), 'no softening'),
    ])
    def test_bad_options(self, options, message):
        with pytest.raises(InvalidValueError, match=message):
            calibrate_teacher(make_samples(), **options)

    def test_one_image(self):
        with pytest.raises(
                InvalidValueError, match='at least 2 images.*has 1'):
            calibrate_teacher(make_samples(num_images=1))


class TestGroupWithoutSamples:

    @pytest.fixture(scope='class')
    def calibrated(self):
        samples = make_samples()
        samples.logits[:, 3] += 100
        return calibrate_teacher(samples)

    def test_is_one_line(self, calibrated, calibration):
        lines = [
            line for line in calibrated.table().splitlines()
            if line.startswith('foreground')
        ]
        assert len(lines) == 1 and 'never predicted' in lines[0]
        assert 'nan' not in calibrated.table()
        assert len(calibration.table().splitlines()) == 7
        assert 'never predicted' not in calibration.table()

    def test_has_no_picture(self, calibrated, calibration, tmp_path,
                            monkeypatch):
        """And that of an earlier run would be taken for it."""
        drawn = []

        def draw(figure, path):
            drawn.append(path)
            open(path, 'w').close()

        monkeypatch.setattr(teacher_calibration, 'save_figure', draw)
        write_teacher_calibration(str(tmp_path), calibration)
        assert sorted(os.listdir(tmp_path)) == FILES
        del drawn[:]
        write_teacher_calibration(str(tmp_path), calibrated)
        assert sorted(os.listdir(tmp_path)) == without_foreground(FILES)
        assert not any('foreground' in path for path in drawn)

    def test_one_side_alone_is_drawn(self, calibration, tmp_path, monkeypatch):
        """Vector scaling can change what is predicted."""
        drawn = {}
        monkeypatch.setattr(
            teacher_calibration, 'reliability_comparison', lambda tables,
            title, target_name: drawn.update({title: list(tables)}))
        monkeypatch.setattr(teacher_calibration, 'save_figure',
                            lambda figure, path: None)
        empty = measure_groups(
            np.zeros((3, 4)) + [0, 0, 0, 9], np.zeros(3, int))
        halved = dataclasses.replace(
            calibration,
            after=dict(calibration.after, foreground=empty['foreground']))
        write_teacher_calibration(str(tmp_path), halved)
        assert [
            len(tables) for title, tables in drawn.items()
            if 'foreground' in title
        ] == [1]


class TestWrite:

    @pytest.fixture(autouse=True)
    def without_figures(self, monkeypatch):
        monkeypatch.setattr(teacher_calibration, 'save_figure',
                            lambda figure, path: None)

    def test_files(self, calibration, tmp_path):
        path = write_teacher_calibration(
            str(tmp_path / 'out'), calibration, teacher=dict(config='x.py'))
        assert path == str(tmp_path / 'out' / 'teacher_calibration.json')
        with open(path) as file:
            content = json.load(file)
        assert content['teacher'] == dict(config='x.py')
        assert content['calibrator'] == calibration.calibrator.to_json_dict()
        assert content['cls_channels'] == 4
        assert len(content['sweep']['nll']) == 46
        for when in ('before', 'after'):
            for group in ('all', 'foreground', 'background'):
                assert set(content[when][group]) == {
                    'num_samples', 'accuracy', 'nll', 'brier', 'ece', 'over',
                    'under', 'mce', 'ace', 'bins'
                }
        # What is printed can be recomputed from the bins.
        row = content['before']['all']
        count, confidence, target = (
            np.array(row['bins'][key], float)
            for key in ('count', 'mean_confidence', 'mean_target'))
        gap = np.nansum(count * np.abs(confidence - target)) / count.sum()
        assert row['ece'] == pytest.approx(gap)

    @pytest.mark.parametrize(
        'kind', ['TemperatureScaling', 'VectorScaling', 'MaxLogitScaling'])
    def test_a_config_loads_the_file(self, tmp_path, kind):
        calibration = calibrate_teacher(make_samples(), kind)
        path = write_teacher_calibration(str(tmp_path), calibration)
        loaded = MODELS.build(
            dict(type=kind, load_from=path, _scope_='tcal_det'))
        logits = torch.randn(5, 4)
        assert torch.equal(loaded(logits), calibration.calibrator(logits))
        loaded.check_cls_channels(4)

    def test_interrupted(self, calibration, tmp_path, monkeypatch):

        def fail(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(teacher_calibration, 'temperature_sweep', fail)
        with pytest.raises(KeyboardInterrupt):
            write_teacher_calibration(str(tmp_path), calibration)
        assert 'teacher_calibration.json' not in os.listdir(tmp_path)


@pytest.fixture
def run_tool(monkeypatch):
    """Run the command as the shell would, in this process."""

    def run(*arguments, draw=False):
        if not draw:  # seconds of every run
            monkeypatch.setattr(teacher_calibration, 'save_figure',
                                lambda figure, path: None)
        monkeypatch.setattr(sys, 'argv', [TOOL, *arguments])
        runpy.run_path(TOOL, run_name='__main__')

    return run


class TestTool:

    def test_end_to_end(self, calibration_files, run_tool, tmp_path, capsys):
        out = str(tmp_path / 'out')
        config, checkpoint = calibration_files()
        run_tool(config, checkpoint, '--out', out, draw=True)
        # Random weights, which call everything background.
        assert sorted(os.listdir(out)) == without_foreground(FILES)
        with open(os.path.join(out, 'teacher_calibration.json')) as file:
            content = json.load(file)
        assert content['teacher'] == dict(config=config, checkpoint=checkpoint)
        assert content['data']['split'] == 'val'
        assert content['data']['num_images'] == 6
        assert content['data']['ann_files'][0].endswith('val.json')
        samples = content['samples']
        assert samples['protocol'] == 'train'
        assert samples['num_used'] == samples['num_seen'] > 0
        assert samples['num_assigned_foreground'] >= 15
        assert content['calibrator']['cls_channels'] == 4
        printed, warned = capsys.readouterr()
        number = samples['num_assigned_foreground']
        assert f'only {number} samples have an object' in warned
        assert f"{content['before']['all']['ece']:.4f}" in printed
        of_halves = content['cross_fitting']['calibrators']
        line, = (line for line in printed.splitlines() if 'half of' in line)
        for fitted in of_halves:
            assert str(fitted['temperature']) in line
        assert str(content['effective_temperature']) in printed

    def test_enough_objects(self, calibration_files, run_tool, tmp_path,
                            capsys):
        run_tool(*calibration_files(num_images=40), '--out',
                 str(tmp_path / 'out'))
        assert 'samples have an object' not in capsys.readouterr().err

    def test_logits_times_three_give_three_times_the_temperature(
            self, calibration_files, run_tool, tmp_path):
        temperatures = []
        for scale in (1, 3):
            out = str(tmp_path / str(scale))
            run_tool(*calibration_files(logit_scale=scale), '--out', out)
            with open(os.path.join(out, 'teacher_calibration.json')) as file:
                temperatures.append(json.load(file)['effective_temperature'])
        assert temperatures[1] == pytest.approx(3 * temperatures[0], rel=1e-4)
        # An optimum, not a bound of the search.
        assert 0.3 < temperatures[0] < 3

    def test_a_student_trains_with_the_file(self, calibration_files, run_tool,
                                            tmp_path, distiller_cfg,
                                            training_step):
        config, checkpoint = calibration_files()
        out = str(tmp_path / 'out')
        run_tool(config, checkpoint, '--out', out, '--softening', '1.2')
        cfg = distiller_cfg(teacher=dict(config=config, checkpoint=checkpoint))
        cfg.teacher.calibrator = dict(
            type='TemperatureScaling',
            load_from=os.path.join(out, 'teacher_calibration.json'))
        losses, _ = training_step(MODELS.build(cfg))
        assert losses['loss_kd_cls'].isfinite()

    def test_options(self, calibration_files, run_tool, tmp_path):
        out = str(tmp_path / 'out')
        files = calibration_files()
        contents = []
        for seed in ('3', '3', '4'):
            run_tool(*files, '--out', out, '--protocol', 'test',
                     '--max-samples', '50', '--objective', 'ece',
                     '--softening', '1.2', '--seed', seed, '--cfg-options',
                     'val_dataloader.batch_size=2',
                     'model.train_cfg.rcnn.assigner.pos_iou_thr=0.1',
                     'model.train_cfg.rcnn.assigner.neg_iou_thr=0.1',
                     'model.train_cfg.rcnn.assigner.min_pos_iou=0.1')
            with open(os.path.join(out, 'teacher_calibration.json')) as file:
                contents.append(json.load(file))
        content, again, other = contents
        assert content == again
        assert content['before'] != other['before']
        assert content['objective'] == 'ece'
        assert content['calibrator']['softening'] == 1.2
        assert content['samples']['protocol'] == 'test'
        assert content['samples']['num_used'] == 50
        assert 'seed 3' in content['samples']['rule']

    def test_warns_of_the_training_split(self, calibration_files, run_tool,
                                         tmp_path, monkeypatch):
        said = []
        monkeypatch.setattr(
            'mmengine.logging.print_log',
            lambda message, *_, **__: said.append(message)
            if 'trains on' in message else None)
        arguments = (*calibration_files(), '--out', str(tmp_path / 'out'))
        run_tool(*arguments)
        assert not said
        run_tool(*arguments, '--split', 'train')
        assert len(said) == 1 and 'train split' in said[0]

    @pytest.mark.parametrize('change, message', [
        (dict(config='nowhere.py'), 'nowhere.py'),
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth'),
        (dict(extra=('--split', 'test')), '`test_dataloader`'),
        (dict(extra=('--softening', '0')), '`softening`'),
        (dict(extra=('--max-samples', '0')), '`max_samples`'),
        (dict(extra=('--max-samples', str(10**15))), '`max_samples`'),
        (dict(extra=('--max-samples', str(10**30))), '`max_samples`'),
        (dict(extra=('--seed', '-1')), '`seed`'),
        (dict(extra=('--seed', str(2**70))), '`seed`'),
        (dict(
            extra=('--cfg-options',
                   'val_dataloader.dataset.ann_file=no.json')), 'no.json'),
        *((dict(extra=('--cfg-options', option)), message)
          for option, message in (
              ('val_dataloader=3', '`val_dataloader` of the config'),
              ('val_dataloader.dataset=3', '`val_dataloader.dataset` of'),
              ('val_dataloader.dataset=None', '`val_dataloader.dataset` of'),
              ('val_dataloader.dataset.datasets=[3]', '.datasets[0]` of'),
              ('val_dataloader.batch_size=0', '.batch_size` must be >= 1'),
              ('val_dataloader.batch_size=a', '.batch_size` must be a whole'),
              ('val_dataloader.num_workers=-1', '.num_workers` must be >= 0'),
              ('val_dataloader.dataset.pipeline=[]', 'which loads images'),
              ('val_dataloader.dataset.pipeline=[1]', 'a list of dicts'),
              ('val_dataloader.dataset.pipeline=3', 'a list of dicts'),
              ('model=3', '`model` of the config must be a dict'))),
        (dict(extra=('--calibrator', 'VectorScaling', '--objective', 'ece')),
         'VectorScaling'),
    ])
    def test_a_mistake_is_one_line_and_status_2(self, calibration_files,
                                                run_tool, tmp_path, capsys,
                                                change, message):
        config, checkpoint = calibration_files()
        with pytest.raises(SystemExit) as caught:
            run_tool(
                change.get('config', config),
                change.get('checkpoint', checkpoint), '--out',
                str(tmp_path / 'out'), *change.get('extra', ()))
        assert caught.value.code == 2
        errors = [
            line for line in capsys.readouterr().err.splitlines()
            if line.startswith('error: ')
        ]
        assert len(errors) == 1 and message in errors[0]
        assert not (tmp_path / 'out' / 'teacher_calibration.json').exists()

    def test_nan_logits(self, calibration_files, run_tool, tmp_path, capsys):
        config, checkpoint = calibration_files(logit_scale=float('nan'))
        with pytest.raises(SystemExit) as caught:
            run_tool(config, checkpoint, '--out', str(tmp_path / 'out'))
        assert caught.value.code == 2
        assert 'must be finite' in capsys.readouterr().err

    def test_out_is_a_file(self, calibration_files, run_tool, tmp_path,
                           capsys):
        (tmp_path / 'out').write_text('')
        with pytest.raises(SystemExit) as caught:
            run_tool(*calibration_files(), '--out', str(tmp_path / 'out'))
        assert caught.value.code == 2
        assert '`--out` must be in a folder' in capsys.readouterr().err
