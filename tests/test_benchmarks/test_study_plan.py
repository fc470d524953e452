"""The plan as code against the plan as text."""
import os.path as osp
import re
from collections import Counter

import pytest

from benchmarks.study import plan
from benchmarks.study.data import NUM_FOLDS, PARTS, split_in_folds
from benchmarks.study.one_run import config_of, find_run
from tcal_det.errors import InvalidValueError

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
ALL = [run for block in plan.BLOCKS.values() for run in block.runs]


def rows_of_the_text():
    """Number of runs by block, of the last table that names the block."""
    path = osp.join(REPOSITORY, 'docs/evidence/preregistration.md')
    with open(path, encoding='utf-8') as file:
        found = re.findall(r'^\| ([A-Z]) \| .* \| (\d+) \|$', file.read(),
                           re.MULTILINE)
    return {block: int(count) for block, count in found}


def test_blocks_have_as_many_runs_as_was_announced():
    announced = rows_of_the_text()
    assert {'A', 'B', 'C', 'D', 'F', 'S', 'W'} <= set(announced)
    assert announced['C'] == announced['D'] == 0
    for block, count in announced.items():
        if count:
            assert len(plan.BLOCKS[block].runs) == count, block
        else:
            assert block not in plan.BLOCKS


def test_arms_of_block_a():
    counts = Counter(run.arm for run in plan.BLOCKS['A'].runs)
    assert counts == {
        'baseline': 16,
        'hard': 12,
        'kd': 42,
        'tcal-t1': 12,
        'tcal-t1.5': 42,
        'tcal-t3': 16
    }
    assert {run.seed for run in plan.BLOCKS['A'].runs} == set(range(201, 243))


def test_names_are_unique():
    assert len({run.name for run in ALL}) == len(ALL)


def test_a_stop_favours_no_arm():
    """Whatever has begun, arms differ by one run, but for their planned end.

    """
    made = Counter()
    for run in plan.in_order('A'):
        if run.block == 'T':
            continue
        made[run.arm] += 1
        unfinished = [
            made[arm] for arm, count in plan.ARMS_A.items()
            if made[arm] < count
        ]
        if unfinished:
            assert max(made[arm]
                       for arm in plan.ARMS_A) - min(unfinished) <= 1 or min(
                           unfinished) >= 12


def test_teachers_come_before_their_students():
    ready = set()
    for run in plan.in_order(plan.DEFAULT_BLOCKS):
        folder = plan.folder_of(run.name)
        if run.block == 'T':
            ready.add(folder)
        for need in run.needs:
            assert any(need.startswith(name + '/') for name in ready), run.name


def test_no_teacher_has_seen_its_students_scenes_but_s1():
    students = set(range(200))
    for run in plan.BLOCKS['T'].runs:
        if run.data != 'digits':
            continue
        indices = run.overrides['train_dataloader']['dataset']['indices']
        scenes = range(2000)[indices:] if indices < 0 else range(indices)
        assert len(scenes) == 1800
        assert bool(students & set(scenes)) == (run.teacher == 'S1')


@pytest.mark.parametrize('block', ['A', 'B', 'W', 'S'])
def test_no_teacher_begins_with_the_weights_of_a_student(block):
    """Block F does, with its first seed: an amendment says so."""
    teachers = {(run.config, run.seed) for run in plan.BLOCKS['T'].runs}
    students = {(run.config, run.seed) for run in plan.BLOCKS[block].runs}
    assert not teachers & students


@pytest.mark.parametrize('block', ['A', 'F', 'S'])
def test_arms_of_a_seed_differ_in_the_model_alone(block):
    pairs = {}
    for run in plan.BLOCKS[block].runs:
        others = {
            key: value
            for key, value in run.overrides.items() if key != 'model'
        }
        key = run.seed, run.fold
        pairs.setdefault(key, set()).add(
            (run.config, run.epochs, run.data, str(others)))
    assert all(len(found) == 1 for found in pairs.values())


def test_config_of_an_arm():
    run = find_run('digits/A/tcal-t1.5/seed202')
    cfg = config_of(run)
    assert cfg.model.type == 'tcal_det.CalibratedTeacherDistiller'
    assert cfg.model.teacher.calibrator == dict(
        type='TemperatureScaling', temperature=1.5)
    assert cfg.model.teacher.checkpoint.endswith('teachers/U2/epoch_12.pth')
    assert cfg.model.distill_losses.loss_kd_cls == dict(
        type='LogitKLDivLoss', loss_weight=16.0)
    assert cfg.train_cfg.max_epochs == 48
    assert cfg.optim_wrapper.clip_grad is None
    assert cfg.randomness.seed == 202
    assert cfg.test_dataloader.dataset.indices == -2000
    assert cfg.train_dataloader.batch_size == 2


@pytest.mark.parametrize('arm, calibrator', [
    ('as-is', None),
    ('tcal-t1.5', dict(activation='sigmoid', temperature=1.5)),
    ('platt',
     dict(load_from='work_dirs/study/bccd/teachers/focal-fold2/'
          'calibration/teacher_calibration.json')),
    ('focal-posterior', dict(alpha=0.25, gamma=2.0)),
])
def test_teacher_of_a_focal_arm(arm, calibrator):
    cfg = config_of(find_run(f'bccd/F/{arm}/fold2-seed1'))
    found = cfg.model.teacher.get('calibrator')
    if found is not None:
        found = dict(found)
        assert found.pop('type')
    assert found == calibrator
    assert cfg.train_dataloader.dataset.indices == 36
    assert cfg.train_dataloader.dataset.ann_file.endswith('fold2/student.json')
    assert cfg.test_dataloader.dataset.ann_file.endswith('fold2/test.json')


def test_hard_labels_have_the_total_weight():
    cfg = config_of(find_run('digits/A/hard/seed201'))
    assert cfg.model.roi_head.bbox_head.loss_cls.loss_weight == 17
    assert 'teacher' not in cfg.model


def test_unknown_run_is_named():
    with pytest.raises(InvalidValueError, match='--list'):
        find_run('digits/A/none/seed1')


class TestFolds:

    @pytest.fixture(scope='class')
    def folds(self):
        """Two files with image ids that overlap; object i is i + 1 wide."""
        contents, number = [], 0
        for count in (13, 10):
            images, objects = [], []
            for image_id in range(count):
                images.append(
                    dict(id=image_id, file_name=f'{number + image_id}.jpg'))
                for _ in range(image_id % 3):
                    objects.append(
                        dict(
                            id=len(objects),
                            image_id=image_id,
                            category_id=1,
                            bbox=[0, 0, number + image_id + 1, 1]))
            number += count
            contents.append(
                dict(
                    images=images,
                    annotations=objects,
                    categories=[dict(id=1, name='cell')]))
        return split_in_folds(contents)

    def test_every_image_is_tested_once(self, folds):
        tested = [
            image['file_name'] for fold in folds
            for image in fold['test']['images']
        ]
        assert sorted(tested) == sorted(f'{n}.jpg' for n in range(23))

    def test_parts_of_a_fold_are_disjoint_and_whole(self, folds):
        assert len(folds) == NUM_FOLDS
        for fold in folds:
            names = [
                image['file_name'] for part in PARTS
                for image in fold[part]['images']
            ]
            assert len(names) == len(set(names)) == 23

    def test_objects_stay_with_their_images(self, folds):
        for fold in folds:
            for part in fold.values():
                file_names = {
                    image['id']: image['file_name']
                    for image in part['images']
                }
                ids = [one['id'] for one in part['annotations']]
                assert len(ids) == len(set(ids))
                for one in part['annotations']:
                    number = int(file_names[one['image_id']].split('.')[0])
                    assert one['bbox'][2] == number + 1
                counts = Counter(one['image_id']
                                 for one in part['annotations'])
                for image_id, name in file_names.items():
                    number = int(name.split('.')[0])
                    local = number if number < 13 else number - 13
                    assert counts[image_id] == local % 3


@pytest.mark.parametrize('seed, teacher',
                         [(201, 'U1'), (206, 'U2'), (207, 'U3'), (208, 'U4'),
                          (232, 'U4')])
def test_teacher_of_a_seed(seed, teacher):
    """Amendment after seed 206."""
    run = find_run(f'digits/A/kd/seed{seed}')
    assert run.teacher == teacher
    assert f'/{teacher}/' in run.needs[0]
    made = find_run(f'digits/teachers/{teacher}')
    assert made.seed == 11 + (teacher in ('U2', 'U4'))
    assert made.round <= run.round


@pytest.mark.parametrize('head, block', [('focal', 'F'), ('softmax', 'S')])
@pytest.mark.parametrize('fold, seed, suffix', [(0, 1, ''), (0, 2, ''),
                                                (1, 1, ''), (4, 1, ''),
                                                (1, 2, '-remade'),
                                                (4, 2, '-remade')])
def test_teacher_of_a_fold(head, block, fold, seed, suffix):
    """Amendment after block S: trained again, nothing else is changed."""
    name = f'{head}-fold{fold}{suffix}'
    students = [
        run for run in plan.BLOCKS[block].runs
        if (run.fold, run.seed) == (fold, seed) and run.teacher is not None
    ]
    assert {run.teacher for run in students} == {name}
    for run in students:
        assert f'/{name}/' in str(run.overrides['model'])
        assert all(f'/{name}/' in need for need in run.needs)
    first, made = (
        find_run(f'bccd/teachers/{teacher}')
        for teacher in (f'{head}-fold{fold}', name))
    assert made.round == min(
        run.round for run in students) - (5 if seed == 2 and not suffix else 0)
    assert (made.seed, made.config, made.epochs,
            made.overrides) == (first.seed, first.config, first.epochs,
                                first.overrides)
