"""The over-confident teacher loses, and the figures say how sure that is."""
import dataclasses
import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from scipy.special import expit, softmax
from scipy.stats import bernoulli, entropy

from tcal_det.teachers.logits import TeacherSamples
from tcal_det.teachers.pairs import PairSelection, PlaceSelection, TeacherPairs
from tcal_det.teachers.ranking import TeacherRanking, measure_mean_ap
from tcal_det.teachers.sources import (build_calibration_dataloader,
                                       build_teacher, load_teacher_config)
from tcal_det.teachers.teacher_score import score_teacher

TOOL = os.path.join(
    os.path.dirname(__file__), '../../tools/analysis_tools/rank_teachers.py')
FIGURES = ('ece', 'over', 'under', 'ace', 'entropy', 'non_target_variance',
           'temperature', 'calibrated_ece')


def make_samples(sharpness=1.0, num_images=60, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (num_images * 30, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return TeacherSamples(
        logits=(logits * sharpness).astype(np.float32),
        labels=labels,
        image_ids=np.repeat(np.arange(num_images), 30),
        num_seen=len(labels),
        num_images=num_images)


def score(name, *samples, mean_ap=0.4, num_resamples=200, **kwargs):
    return score_teacher(name, make_samples(*samples, **kwargs), mean_ap,
                         num_resamples)


class TestScore:

    @pytest.fixture(scope='class')
    def sharp(self):
        return score('sharp', 3.0)

    @pytest.mark.parametrize('figure', FIGURES)
    def test_interval_covers_the_value(self, sharp, figure):
        for one in (sharp, score('calibrated')):
            estimate = getattr(one, figure)
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.low < estimate.high

    @pytest.mark.parametrize('figure', FIGURES)
    def test_interval_shrinks_with_more_images(self, sharp, figure):
        few, many = (
            getattr(one, figure)
            for one in (sharp, score('sharp', 3.0, num_images=600)))
        # Ten times the images: a third of the width.
        assert (many.high - many.low) < 0.6 * (few.high - few.low)

    def test_values(self, sharp):
        assert sharp.temperature.value == pytest.approx(3, abs=.2)
        assert sharp.ece.value == pytest.approx(sharp.over.value +
                                                sharp.under.value)
        calibrated = score('calibrated')
        assert sharp.temperature.value == pytest.approx(
            3 * calibrated.temperature.value, rel=1e-4)
        assert sharp.calibrated_ece.value == pytest.approx(
            calibrated.calibrated_ece.value, abs=1e-6)
        assert sharp.ece.low > calibrated.ece.high

    def test_figures_of_the_soft_labels(self, sharp):
        """Means over samples, by scipy and numpy a sample at a time."""
        samples = make_samples(3.0)
        probs = softmax(samples.logits.astype(float), axis=1)
        assert sharp.entropy.value == pytest.approx(
            np.mean([entropy(row) for row in probs]))
        assert sharp.non_target_variance.value == pytest.approx(
            np.mean([
                np.var(np.delete(row, label))
                for row, label in zip(probs, samples.labels)
            ]))
        # Sharper logits leave less doubt.
        assert sharp.entropy.high < score('calibrated').entropy.low

    def test_seeded(self, sharp):
        assert score('sharp', 3.0).to_dict() == sharp.to_dict()
        other = score_teacher('sharp', make_samples(3.0), 0.4, 200, seed=1)
        assert other.ece.value == sharp.ece.value
        assert other.ece.low != sharp.ece.low


def make_pairs(sharpness=1.0, shift=0.0, num_images=60):
    """Scored pairs of a sigmoid head, true logits scaled and shifted."""
    rng = np.random.default_rng(0)
    true = rng.normal(-1, 1.5, num_images * 100)
    drawn = rng.random(len(true)) < expit(true)
    scored = PairSelection(
        logits=(sharpness * true + shift).astype(np.float32),
        targets=drawn.astype(np.float32),
        image_ids=np.repeat(np.arange(num_images), 100),
        num_seen=len(true))
    return TeacherPairs(
        scored=scored,
        all=scored,
        scored_places=PlaceSelection(
            non_target_variance=rng.gamma(2, .01,
                                          len(true) // 2),
            image_ids=np.repeat(np.arange(num_images), 50),
            num_seen=len(true) // 2),
        score_threshold=.05,
        sum_scores=1.,
        sum_targets=1.,
        cls_channels=3,
        num_images=num_images,
        scores_iou=False,
        sample_name='priors')


class TestSigmoidScore:

    @pytest.fixture(scope='class')
    def sharp(self):
        return score_teacher('sharp', make_pairs(2.0, .5), .4, 200)

    @pytest.mark.parametrize('figure', [
        'ece', 'over', 'under', 'entropy', 'non_target_variance', 'sum_ratio',
        'scale', 'bias', 'calibrated_ece'
    ])
    def test_interval_covers_the_value(self, sharp, figure):
        estimate = getattr(sharp, figure)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low < estimate.high

    def test_values(self, sharp):
        """A z + b with a = 1 / 2 and b = -1 / 4 undoes 2 z + 1 / 2."""
        assert sharp.scale.low < .5 < sharp.scale.high
        assert sharp.bias.low < -.25 < sharp.bias.high
        pairs = make_pairs(2.0, .5).scored
        scores = expit(pairs.logits.astype(float))
        assert sharp.sum_ratio.value == pytest.approx(scores.sum() /
                                                      pairs.targets.sum())
        assert sharp.ece.value > .05 > sharp.calibrated_ece.value
        assert sharp.ece.value == pytest.approx(sharp.over.value +
                                                sharp.under.value)

    def test_figures_of_the_soft_labels(self, sharp):
        pairs = make_pairs(2.0, .5)
        scores = expit(pairs.scored.logits.astype(float))
        assert sharp.entropy.value == pytest.approx(
            np.mean([bernoulli.entropy(score) for score in scores]))
        assert sharp.non_target_variance.value == pytest.approx(
            pairs.scored_places.non_target_variance.mean())

    def test_no_place_has_another_class(self):
        """One class, and no background is scored: there is no variance."""
        pairs = dataclasses.replace(
            make_pairs(),
            scored_places=PlaceSelection(np.empty(0), np.empty(0, int), 0))
        alone = score_teacher('alone', pairs, .3, 20)
        assert np.isnan(alone.non_target_variance.value)
        table = TeacherRanking.from_scores([alone]).as_markdown()
        assert '| n/a |' in ' '.join(table.split()) and 'nan' not in table

    def test_ranking(self, sharp):
        calibrated = score_teacher('calibrated', make_pairs(), .3, 200)
        ranking = TeacherRanking.from_scores([sharp, calibrated])
        assert ranking.recommended.name == 'calibrated'
        lines = ranking.as_markdown().splitlines()
        assert len({line.count('|') for line in lines[:4]}) == 1
        assert '| a | b | ECE at a, b |' in ' '.join(lines[0].split())
        a, b = calibrated.scale.value, calibrated.bias.value
        assert (f"calibrator=dict(type='PlattScaling', scale={a:.3f}, "
                f'bias={b:.3f})') in ranking.as_markdown()
        content = ranking.to_dict()
        assert content['recommendation']['scale'] == a
        assert set(content['teachers'][0]) >= {
            'ece', 'sum_ratio', 'bias', 'entropy', 'non_target_variance'
        }
        json.dumps(content)


class TestRanking:

    def test_overconfident_copy_ranks_below(self):
        ranking = TeacherRanking.from_scores(
            [score('copy', 3.0, mean_ap=0.5),
             score('original')])
        assert [one.name for one in ranking.scores] == ['original', 'copy']
        assert ranking.recommended.name == 'original'
        assert ranking.differences[0].value == 0
        assert ranking.differences[1].low > 0.1
        grounds = ' '.join(ranking.reasons())
        assert 'R^2 = .92' in grounds and 'it is larger' in grounds

    def test_equals_are_told_apart_by_map(self):
        ranking = TeacherRanking.from_scores([
            score('a', 1.0, mean_ap=0.3),
            score('b', 1.08, mean_ap=0.4),
            score('c', 3.0, mean_ap=0.5)
        ])
        assert [one.name for one in ranking.scores] == ['a', 'b', 'c']
        assert ranking.recommended.name == 'b'
        grounds = ' '.join(ranking.reasons())
        assert 'not distinguishable on these images' in grounds
        assert '`b` has the highest mAP, 40.0' in grounds

    def test_difference_is_paired(self):
        """A copy with other errors on the same images differs by less."""
        one, other = score('one', 3.0), score('other', 2.9)
        difference = TeacherRanking.from_scores([one, other]).differences[1]
        width = one.ece.high - one.ece.low
        assert difference.high - difference.low < 0.5 * width

    def test_teacher_that_says_nothing(self):
        """Equal logits: no interval of a temperature, and no traceback."""
        samples = make_samples()
        samples.logits[:] = 0
        with pytest.warns(UserWarning, match='the temperature has no effect'):
            silent = score_teacher('silent', samples, float('nan'), 200)
        ranking = TeacherRanking.from_scores([silent, score('original')])
        table = ranking.as_markdown()
        assert '1.000 [no interval]' in table and '| n/a ' in table
        assert 'nan' not in table

    def test_nothing_is_known_of_a_difference(self):
        one, other = score('one'), score('other', seed=1)
        for teacher in (one, other):
            teacher.resampled_ece[:] = float('nan')
        ranking = TeacherRanking.from_scores([one, other])
        assert 'not distinguishable' in ' '.join(ranking.reasons())

    def test_table_and_dict(self):
        ranking = TeacherRanking.from_scores(
            [score('copy', 3.0), score('original')])
        lines = ranking.as_markdown().splitlines()
        assert len({line.count('|') for line in lines[:4]}) == 1
        assert lines[2].startswith('| **original** | 40.0 |')
        best = ranking.scores[0]
        assert f'{best.ece.value:.4f} [{best.ece.low:.4f}, ' in lines[2]
        variance = best.non_target_variance
        assert '| entropy | non-target variance |' in ' '.join(
            lines[0].split())
        assert f'{variance.value:.6f} [{variance.low:.6f}, ' in lines[2]
        content = ranking.to_dict()
        assert content['recommendation']['teacher'] == 'original'
        assert content['recommendation'][
            'temperature'] == best.temperature.value
        assert content['teachers'][0]['ece']['value'] == best.ece.value
        assert content['teachers'][0]['entropy'] == best.entropy.to_dict()
        json.dumps(content)


def test_mean_ap_is_that_of_coco_metric(calibration_files):
    """In the scale of the images, as the annotations are in their own."""
    cfg, checkpoint = load_teacher_config(*calibration_files())
    detector = build_teacher(cfg, checkpoint)
    # Boxes of no teacher at all are never right: move them onto objects.
    loader = build_calibration_dataloader(cfg)
    predict = detector.predict

    def predict_near_objects(images, data_samples, rescale):
        results = predict(images, data_samples, rescale=rescale)
        for result in results:
            found, truth = result.pred_instances, result.gt_instances
            count = min(len(found), len(truth))
            boxes = truth.bboxes.clone()
            if rescale:
                boxes /= boxes.new_tensor(result.scale_factor).repeat(1, 2)
            size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            shift = torch.linspace(0, .2, len(boxes))[:, None]
            found.bboxes[:count] = (boxes + shift * size)[:count]
            found.labels[:count] = truth.labels[:count]
        return results

    detector.predict = predict_near_objects
    measured = measure_mean_ap(detector, loader)

    dataset = loader.dataset
    ann_file = Path(dataset.data_root) / 'val.json'
    content = json.loads(ann_file.read_text())
    for annotation in content['annotations']:
        annotation['id'] += 1  # COCOeval takes the id 0 for not found
    ann_file.write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(ann_file), metric='bbox')
    metric.dataset_meta = dataset.metainfo
    with torch.no_grad():
        for data in loader:
            data = detector.data_preprocessor(data, False)
            results = predict_near_objects(
                data['inputs'], data['data_samples'], rescale=True)
            metric.process({}, [result.to_dict() for result in results])
    expected = metric.evaluate(len(dataset))['coco/bbox_mAP']
    assert 0.05 < measured < 1
    assert measured == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def run_tool(monkeypatch):
    """Run the command as the shell would, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments)])
        runpy.run_path(TOOL, run_name='__main__')

    return run


@pytest.fixture
def teachers(calibration_files):
    """Arguments of a teacher and of its over-confident copy."""
    config, checkpoint = calibration_files(logit_scale=3)
    copy = checkpoint.replace('.pth', '_x9.pth')
    state = torch.load(checkpoint)
    for name in ('weight', 'bias'):
        state['state_dict'][f'roi_head.bbox_head.fc_cls.{name}'] *= 9
    torch.save(state, copy)
    return [['--teacher', 'sharp', config, copy],
            ['--teacher', 'original', config, checkpoint]]


class TestTool:

    def test_end_to_end(self, teachers, run_tool, tmp_path, capsys):
        prefix = tmp_path / 'out' / 'teachers'
        run_tool(*teachers[0], *teachers[1], '--out', prefix,
                 '--num-resamples', 100)
        assert sorted(os.listdir(prefix.parent)) == [
            'teachers.json', 'teachers.md', 'teachers.png'
        ]
        content = json.loads(prefix.with_suffix('.json').read_text())
        assert [one['name']
                for one in content['teachers']] == ['original', 'sharp']
        assert content['recommendation']['teacher'] == 'original'
        assert content['num_images'] == 6 and content['split'] == 'val'
        assert content['sources']['original']['checkpoint'] == teachers[1][3]
        original, sharp = (
            one['temperature']['value'] for one in content['teachers'])
        assert sharp == pytest.approx(9 * original, rel=1e-4)
        table = prefix.with_suffix('.md').read_text()
        assert table in capsys.readouterr().out
        assert prefix.with_suffix('.png').read_bytes()[1:4] == b'PNG'

    @pytest.mark.parametrize('change, message', [
        (dict(names=('one', )), '`--teacher` must be given at least twice'),
        (dict(names=('one', 'one')),
         '`--teacher` must be given at least twice'),
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth'),
        (dict(extra=('--split', 'test')), '`test_dataloader`'),
        (dict(names=('a|b', 'c')), '`--teacher` must be given names'),
        (dict(names=('', 'c')), '`--teacher` must be given names'),
        (dict(extra=('--num-resamples', '1')), '`--num-resamples`'),
        (dict(extra=('--num-resamples', '1000000000')), '`--num-resamples`'),
        (dict(extra=('--seed', str(2**70))), '`seed`'),
        (dict(extra=('--max-samples', '0')), '`max_samples`'),
        (dict(out='.'), '`--out` must be the beginning'),
        (dict(out='teacher.py/out'), "must be in a folder, but"),
        (dict(num_classes=7), 'must classify the same classes'),
    ])
    def test_a_mistake_is_one_line_and_status_2(self, teachers, run_tool,
                                                tmp_path, capsys,
                                                teacher_files, change,
                                                message):
        sources = [teacher[2:] for teacher in teachers]
        if 'checkpoint' in change:
            sources[1][1] = change['checkpoint']
        if 'num_classes' in change:
            other = teacher_files(
                name='other', num_classes=change['num_classes'])
            sources[1] = [other['config'], other['checkpoint']]
        arguments = []
        for name, source in zip(change.get('names', ('a', 'b')), sources):
            arguments += ['--teacher', name, *source]
        with pytest.raises(SystemExit) as caught:
            run_tool(*arguments, '--out', tmp_path / change.get('out', 'out'),
                     *change.get('extra', ()))
        assert caught.value.code == 2
        errors = [
            line for line in capsys.readouterr().err.splitlines()
            if line.startswith('error: ')
        ]
        assert len(errors) == 1 and message in errors[0]
        assert not (tmp_path / 'out.json').exists()

    def test_warns_of_the_training_split(self, teachers, run_tool, tmp_path,
                                         capsys):
        run_tool(*teachers[0], *teachers[1], '--out', tmp_path / 'out',
                 '--split', 'train', '--num-resamples', 2)
        printed = capsys.readouterr().out
        assert printed.count('was trained on') == 2
