"""tools/distill.py: what it decides, writes, trains, and refuses."""
import json
import os
import os.path as osp

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tcal_det.models.head_adapters.dense_head_adapter import DenseHeadAdapter
from tcal_det.registry import MODELS
from tests.head_families import detector_cfg, write_teacher
from tests.query_cases import tiny_model

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
DIGITS = tuple('0123456789')


@pytest.fixture
def student(tmp_path, digits):
    """Write the config of a student of a family; its path."""

    def write(family, edit=None, name='student', **model):
        cfg = Config.fromfile(osp.join(REPOSITORY, 'tests/data/digits.py'))
        for split in ('train', 'val', 'test'):
            loader = cfg[f'{split}_dataloader']
            loader.update(
                num_workers=0, persistent_workers=False, batch_size=2)
            loader.dataset.data_root = digits
        for split in ('val', 'test'):
            cfg[f'{split}_evaluator'] = dict(
                type='CocoMetric',
                ann_file=osp.join(digits, 'annotations', f'{split}.json'))
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
        cfg.model = detector_cfg(family, **dict(dict(num_classes=10), **model))
        if edit is not None:
            edit(cfg)
        path = str(tmp_path / f'{name}.py')
        cfg.dump(path)
        return path

    return write


@pytest.fixture
def teacher(tmp_path):
    """Write a teacher with names of its classes; config and checkpoint."""

    def write(family, names=DIGITS, num_classes=10, **options):
        files = write_teacher(
            tmp_path, family, num_classes=num_classes, **options)
        if names is not None:
            content = torch.load(files['checkpoint'], weights_only=True)
            content['meta'] = dict(dataset_meta=dict(classes=names))
            torch.save(content, files['checkpoint'])
        return files['config'], files['checkpoint']

    return write


@pytest.fixture
def distill(call_tool, tmp_path):
    """Run the command; its output and the config that it wrote."""

    def run(*args):
        status, error = call_tool('distill.py', *args, '--work-dir',
                                  str(tmp_path / 'run'))
        assert status == 0, error
        path, = (
            line[len('written: '):] for line in call_tool.output.splitlines()
            if line.startswith('written: '))
        return call_tool.output + error, path

    return run


def step(path, training_step):
    """Losses of a step of the model of a written config."""
    cfg = Config.fromfile(path)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    losses, total = training_step(model, num_classes=10)
    total.backward()
    assert torch.isfinite(total)
    return losses


def test_same_family_by_default(distill, student, teacher, training_step,
                                tmp_path):
    student_path = student('faster')
    files = teacher('faster')
    output, path = distill(student_path, *files, '--dry-run')
    assert path == str(tmp_path / 'student_distill-teacher.py')
    with open(path) as file:
        text = file.read()
    assert text.startswith('# Written by tools/distill.py')
    assert "_base_ = './student.py'\n" in text
    assert all(
        len(line) <= 79 or str(tmp_path) in line for line in text.splitlines())
    cfg, plain = Config.fromfile(path), Config.fromfile(student_path)
    assert cfg.model == dict(
        plain.model,
        type='tcal_det.CalibratedTeacherDistiller',
        student_type='FasterRCNN',
        teacher=dict(
            config=files[0],
            checkpoint=files[1],
            calibrator=dict(type='TemperatureScaling', temperature=1.5),
            check=True),
        distill_losses=dict(
            loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0)))
    assert cfg.train_dataloader == plain.train_dataloader
    assert 'transport: same_samples' in output
    assert 'classes: the same 10 in the same order' in output
    # No training, and nothing but the config.
    assert not osp.exists(str(tmp_path / 'run'))
    assert 'loss_kd_cls' in step(path, training_step)


def test_teacher_of_another_family(distill, student, teacher):
    output, path = distill(
        student('retinanet'), *teacher('faster'), '--dry-run')
    assert 'transport: rois_at_boxes' in output
    assert ('not same_samples: the two have different samples: the teacher '
            'classifies RoIs and the student priors') in output
    model = Config.fromfile(path).model
    assert model.teacher.calibrator == dict(
        type='TemperatureScaling', temperature=1.5)
    # Sigmoid, from a teacher that is calibrated.
    assert model.distill_losses.loss_kd_cls.type == 'LogitBinaryKLDivLoss'
    with open(path) as file:
        assert '(rois_at_boxes)' in ' '.join(
            line.strip(' #\n') for line in file)


@pytest.mark.parametrize('family, remedy', [
    ('retinanet', "dict(type='FocalPosterior', alpha=0.25, gamma=2.0)"),
    ('gfl', '--calibrate fits a PlattScaling'),
])
def test_sigmoid_teacher_stays_as_it_is(distill, student, teacher, family,
                                        remedy, training_step):
    output, path = distill(student(family), *teacher(family), '--dry-run')
    model = Config.fromfile(path).model
    assert model.teacher.calibrator is None
    assert model.distill_losses.loss_kd_cls.type == 'QualityFocalKDLoss'
    assert remedy in output
    step(path, training_step)


def test_teacher_that_knows_other_classes(distill, student, teacher):
    """Eight of ten, in another order, one of them by another name."""
    names = ('x', '7', '6', '5', 'four', '3', '2', '1', '0', 'y')
    output, path = distill(
        student('faster'), *teacher('faster', names), '--dry-run', '--classes',
        'four=4')
    lines = output.splitlines()
    start = lines.index('classes: 8 shared, of 10 of the student and 10 of '
                        'the teacher')
    assert [line.strip() for line in lines[start + 1:start + 12]] == [
        'student  teacher', '0 0      8 0', '1 1      7 1', '2 2      6 2',
        '3 3      5 3', '4 4      4 four', '5 5      3 5', '6 6      2 6',
        '7 7      1 7', "classes of the student only: 2 ('8', '9')",
        "classes of the teacher only: 2 ('x', 'y')"
    ]
    assert Config.fromfile(path).model.teacher.classes == dict(four='4')


def test_classes_of_a_checkpoint_without_names(distill, student, teacher):
    output, path = distill(
        student('faster'), *teacher('faster', None), '--dry-run')
    assert ('classes: 10 on both sides, assumed to be the same in the same '
            'order, because the checkpoint of the teacher does not name them'
            ) in output
    output, path = distill(
        student('faster'), *teacher('faster', None), '--dry-run', '--classes',
        '3=4', '4=', '--out', path.replace('.py', '_pairs.py'))
    assert Config.fromfile(path).model.teacher.classes == {3: '4', 4: None}
    assert 'classes: 8 shared' not in output and 'classes: 9 shared' in output


@pytest.mark.slow
@pytest.mark.parametrize('family', ['faster', 'gfl'])
def test_calibrated_on_the_val_images_and_trained(distill, student, teacher,
                                                  family, tmp_path,
                                                  monkeypatch):
    monkeypatch.setattr('tcal_det.teachers.calibration.save_figure',
                        lambda figure, path: None)
    output, path = distill(
        student(family), *teacher(family), '--calibrate', '--cfg-options',
        'model.teacher.check=False', 'default_hooks.logger.interval=2')
    calibrator = Config.fromfile(path).model.teacher.calibrator
    fitted = osp.join('run', 'teacher_calibration', 'teacher_calibration.json')
    assert calibrator.load_from == str(tmp_path / fitted)
    assert calibrator.type == dict(
        faster='TemperatureScaling', gfl='PlattScaling')[family]
    with open(calibrator.load_from) as file:
        content = json.load(file)
    assert content['data']['num_images'] == 4
    assert content['data']['ann_files'][0].endswith('val.json')
    assert 'fitted to half of the images: ' in output
    assert osp.isfile(str(tmp_path / 'run' / 'epoch_1.pth'))
    scalars, = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    assert 'loss_kd_cls' in scalars.read_text()
    log, = (tmp_path / 'run').glob('*/*.log')
    assert f'calibrator: {calibrator.type}(' in log.read_text()
    # A training that goes on keeps its teacher.
    before = os.stat(calibrator.load_from).st_mtime_ns
    output, _ = distill(
        str(tmp_path / 'student.py'), str(tmp_path / 'teacher.py'),
        str(tmp_path / 'teacher.pth'), '--calibrate', '--resume', '--dry-run')
    assert os.stat(calibrator.load_from).st_mtime_ns == before
    assert 'existing calibration: ' in output


@pytest.mark.slow
@pytest.mark.parametrize('names, shared', [
    (DIGITS, 'the same 10 in the same order'),
    (('x', '7', '6', '5', '4', '3', '2', '1', '0', 'y'), '8 shared'),
])
def test_another_family_and_other_classes_train(distill, student, teacher,
                                                tmp_path, names, shared):
    output, _ = distill(
        student('retinanet'), *teacher('faster', names), '--cfg-options',
        'model.teacher.check=False', 'default_hooks.logger.interval=2')
    assert f'classes: {shared}' in output
    scalars, = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    terms = [
        json.loads(line)['loss_kd_cls']
        for line in scalars.read_text().splitlines() if 'loss_kd_cls' in line
    ]
    assert len(terms) == 2 and min(terms) > 0
    log, = (tmp_path / 'run').glob('*/*.log')
    assert 'transport: rois_at_boxes' in log.read_text()


@pytest.fixture
def query_student(student):
    """Write the config of a tiny detector with queries; its path."""

    def write(name):

        def edit(cfg):
            cfg.model = tiny_model(name)
            cfg.model.bbox_head.num_classes = len(DIGITS)

        return student('faster', edit, name=name)

    return write


@pytest.mark.slow
@pytest.mark.parametrize('name, loss', [
    ('DETR', 'LogitKLDivLoss'),
    ('DINO', 'LogitBinaryKLDivLoss'),
])
def test_student_with_queries(distill, query_student, teacher, tmp_path, name,
                              loss):
    """On duplicates a teacher with RoIs contradicts one-to-one labels."""
    output, path = distill(
        query_student(name), *teacher('faster'), '--cfg-options',
        'model.teacher.check=False', 'default_hooks.logger.interval=2')
    assert 'transport: rois_at_boxes' in output
    assert Config.fromfile(path).model.distill_losses.loss_kd_cls == dict(
        type=loss, samples='foreground', loss_weight=1.0)
    scalars, = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    assert 'loss_kd_cls' in scalars.read_text()


@pytest.mark.slow
def test_calibration_meets_the_order_of_the_teacher(distill, student, teacher,
                                                    tmp_path, monkeypatch):
    """A permuted teacher gives the very temperature of the plain one."""
    monkeypatch.setattr('tcal_det.teachers.calibration.save_figure',
                        lambda figure, path: None)
    student_path = student('faster')
    config, checkpoint = teacher('faster')
    order = [3, 1, 2, 0, 9, 8, 7, 6, 5, 4]
    found = []
    for name in ('plain', 'permuted'):
        if name == 'permuted':
            content = torch.load(checkpoint, weights_only=True)
            head = 'roi_head.bbox_head.fc_'
            state = content['state_dict']
            for part in ('weight', 'bias'):
                scores = state[f'{head}cls.{part}']
                state[f'{head}cls.{part}'] = scores[[*order, 10]]
                boxes = state[f'{head}reg.{part}']
                state[f'{head}reg.{part}'] = boxes.view(
                    10, 4, -1)[order].view_as(boxes)
            content['meta'] = dict(
                dataset_meta=dict(classes=[DIGITS[label] for label in order]))
            torch.save(content, checkpoint)
        output, path = distill(student_path, config, checkpoint, '--calibrate',
                               '--dry-run', '--out',
                               str(tmp_path / f'{name}.py'))
        assert ('another' not in output) and ('not fitted' not in output)
        with open(Config.fromfile(
                path).model.teacher.calibrator.load_from) as file:
            found.append(json.load(file)['effective_temperature'])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0] != 1.5


def without_val(cfg):
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg[key] = None


def val_is_train(cfg):
    cfg.val_dataloader.dataset.ann_file = 'annotations/train.json'


def twelve_classes(cfg):
    cfg.train_dataloader.dataset.metainfo = dict(classes=(*'0123456789', 'a'))


@pytest.mark.parametrize('names, edit, words', [
    (DIGITS, without_val, 'has no `val_dataloader`'),
    (DIGITS, val_is_train, 'student is trained on'),
    ((*'012345678', 'nine'), None, 'have different classes'),
])
def test_nothing_to_calibrate_on(distill, student, teacher, names, edit,
                                 words):
    output, path = distill(
        student('faster', edit), *teacher('faster', names), '--calibrate',
        '--dry-run')
    line, = (
        line for line in output.splitlines()
        if line.startswith('warning: not fitted'))
    assert words in line
    assert Config.fromfile(path).model.teacher.calibrator.temperature == 1.5


def test_val_images_without_objects(distill, student, teacher, tmp_path,
                                    digits):
    with open(osp.join(digits, 'annotations', 'val.json')) as file:
        content = json.load(file)
    empty = str(tmp_path / 'empty.json')
    with open(empty, 'w') as file:
        json.dump(dict(content, annotations=[]), file)

    def edit(cfg):
        cfg.val_dataloader.dataset.ann_file = empty

    output, _ = distill(
        student('faster', edit), *teacher('faster'), '--calibrate',
        '--dry-run')
    assert 'not fitted (--calibrate): ' in output
    assert 'must have annotated objects' in output


def test_config_that_is_there(distill, student, teacher, call_tool, tmp_path):
    args = (student('faster'), *teacher('faster'), '--dry-run')
    _, path = distill(*args)
    before = os.stat(path).st_mtime_ns
    distill(*args)
    assert os.stat(path).st_mtime_ns == before
    with open(path, 'a') as file:
        file.write('# mine\n')
    status, error = call_tool('distill.py', *args)
    assert status == 2 and '--out FILE' in error
    with open(path) as file:
        assert file.read().endswith('# mine\n')
    other = str(tmp_path / 'elsewhere' / 'other.py')
    _, path = distill(*args, '--out', other)
    assert path == other
    assert Config.fromfile(path).model.student_type == 'FasterRCNN'
    with open(path) as file:
        assert "_base_ = '../student.py'" in file.read()


def test_packaged_student(distill, teacher, tmp_path):
    """Its config goes below the work dir, and survives the training there."""
    files = teacher('faster', tuple(f'class {index}' for index in range(80)),
                    80)
    output, path = distill('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
                           *files, '--dry-run', '--classes', 'class 7=person')
    assert path == str(tmp_path / 'run' / 'config' /
                       'retinanet_r18_fpn_1x_coco_distill-teacher.py')
    cfg = Config.fromfile(path)
    assert cfg.model.student_type == 'RetinaNet'
    assert cfg.model.teacher.classes == {'class 7': 'person'}
    assert cfg.train_dataloader.batch_size == 2
    assert 'classes: 1 shared' in output


def test_other_processes_wait_for_the_main_one(student, teacher, call_tool,
                                               monkeypatch, tmp_path):
    args = (student('faster'), *teacher('faster'), '--launcher', 'pytorch',
            '--dry-run')
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setattr('tcal_det.engine.distill_config.LONGEST_WAIT_SECONDS',
                        0.0)
    status, error = call_tool('distill.py', *args)
    assert status == 2 and 'was not written by the main process' in error
    path = tmp_path / 'student_distill-teacher.py'
    path.write_text('model = None\n')
    status, error = call_tool('distill.py', *args)
    assert status == 0 and path.read_text() == 'model = None\n'


def other_order(cfg):
    cfg.train_dataloader.dataset.metainfo = dict(classes=tuple('0213456789'))


def as_distiller(cfg):
    cfg.model.update(student_type=cfg.model.type)


def without_model(cfg):
    cfg.pop('model')


BAD = {
    'student is missing': (dict(student='gone.py'), ['gone.py', 'student']),
    'teacher is missing': (dict(teacher='gone.py'), ["'gone.py' does not"]),
    'checkpoint is missing':
    (dict(checkpoint='gone.pth'), ["'gone.pth' does not exist"]),
    'checkpoint is none': (dict(checkpoint=__file__), ['cannot be read']),
    'no weights in the zoo': (dict(checkpoint='auto'), ["='auto'` needs"]),
    'student has no model': (dict(edit=without_model), ['key `model`']),
    'student is a distiller':
    (dict(edit=as_distiller), ['must be that of a plain detector']),
    'teacher cannot be read':
    (dict(teacher='mmdet::centernet/centernet_r18_8xb'
          '16-crop512-140e_coco.py'), ['the teacher CenterNet',
                                       'Which heads']),
    'no shared class': (dict(names=tuple('abcdefghij')),
                        ['must share a class', "10 ('a', 'b'",
                         "10 ('0', '1'"]),
    'no names, another number': (dict(names=None, num_classes=9),
                                 ['must name its classes', 'has 9', '10']),
    'order of the annotations':
    (dict(edit=other_order),
     ["is '2' at label 1, where the file has '1'", "('0', '1', '2', '3'"]),
    'number of the classes': (dict(edit=twelve_classes),
                              ['must name the 10 classes', 'names 11']),
    'a map to nothing': (dict(options=('--classes', 'a=0', '1=ten')),
                         ["must name classes of", "'a' is not one of"]),
    'no map': (dict(options=('--classes', 'a')), ['pairs TEACHER=STUDENT']),
    'no config': (dict(options=('--out', 'distill.json')), ['ends in .py']),
}


@pytest.mark.parametrize('case', BAD)
def test_mistakes(case, student, teacher, call_tool, tmp_path):
    given, words = BAD[case]
    given = dict(given)
    options = given.pop('options', ())
    student_path = given.pop('student', None) or student(
        'faster', given.pop('edit', None))
    config, checkpoint = teacher('faster', given.pop('names', DIGITS),
                                 given.pop('num_classes', 10))
    files = [given.pop('teacher', config), given.pop('checkpoint', checkpoint)]
    assert not given
    line = complaint(call_tool, student_path, *files, '--dry-run',
                     '--work-dir', str(tmp_path / 'run'), *options)
    for word in words:
        assert word in line
    assert not osp.exists(str(tmp_path / 'student_distill-teacher.py'))


def test_pair_without_a_transport(student, teacher, call_tool, monkeypatch):
    monkeypatch.setattr(DenseHeadAdapter, 'reason_against_boxes',
                        lambda self: 'has boxes of its own')
    line = complaint(call_tool, student('retinanet'), *teacher('faster'),
                     '--dry-run')
    assert '`teacher.transport` must be possible for student' in line
    assert 'has boxes of its own' in line


def test_work_dir_that_cannot_be_one(student, teacher, call_tool, tmp_path):
    (tmp_path / 'file').write_text('')
    line = complaint(call_tool, student('faster'), *teacher('faster'),
                     '--work-dir', str(tmp_path / 'file' / 'run'))
    assert '`--work-dir` must be a folder' in line


def test_folder_of_the_student_that_cannot_be_written_to(
        student, teacher, call_tool, tmp_path, monkeypatch):
    line = complaint(call_tool, student('faster'),
                     *teacher('faster'), '--dry-run', '--out',
                     str(tmp_path / 'student.py' / 'a.py'))
    assert 'cannot be written' in line


def complaint(call_tool, *args):
    """The one line of the command."""
    status, error = call_tool('distill.py', *args)
    assert status == 2 and 'Traceback' not in error, error
    line, = (line for line in error.splitlines() if line.startswith('error: '))
    return line
