"""Commands on students of every family of heads, as on Faster R-CNN."""
import glob
import json
import os
import os.path as osp
import pickle
import shutil

import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config

from tests.head_families import (detector_cfg, distiller_cfg, replaced,
                                 write_teacher)
from tests.state_comparison import assert_same_state

pytestmark = pytest.mark.slow

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


@pytest.fixture
def family_configs(tmp_path, digits):
    """Write a plain and a distill config of a family, by its name."""

    def write(family, calibrator='own', **options):
        teacher = write_teacher(tmp_path, family, num_classes=10)
        base = Config.fromfile(osp.join(REPOSITORY, 'tests/data/digits.py'))
        for split in ('train', 'val', 'test'):
            loader = base[f'{split}_dataloader']
            loader.update(
                num_workers=0, persistent_workers=False, batch_size=2)
            loader.dataset.data_root = digits
        for split in ('val', 'test'):
            base[f'{split}_evaluator'] = dict(
                type='CocoMetric',
                ann_file=osp.join(digits, 'annotations', f'{split}.json'))
        base.train_cfg.update(max_epochs=2, val_interval=2)
        base.optim_wrapper.optimizer.lr = 1e-3
        base.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=2)
        paths = {}
        for name, model in dict(
                plain=detector_cfg(family, num_classes=10),
                distill=distiller_cfg(
                    family, teacher, calibrator, num_classes=10,
                    **options)).items():
            base.model = model
            base.custom_hooks = [dict(type='EMAHook')]
            if name == 'distill':
                base.custom_hooks.append(
                    dict(
                        type='tcal_det.LossWeightScheduleHook',
                        loss='loss_kd_cls',
                        schedule=dict(type='cosine', end_factor=0.1)))
            paths[name] = str(tmp_path / f'{name}.py')
            base.dump(paths[name])
        return paths

    return write


@pytest.mark.parametrize('family, options', [
    ('retinanet', ()),
    ('gfl', ('--amp', )),
    ('rtmdet', ()),
    ('cascade', ('--amp', )),
])
def test_train_resume_test_publish(call_tool, family_configs, load_state,
                                   digits, tmp_path, family, options):
    configs = family_configs(family)
    whole, resumed = str(tmp_path / 'whole'), str(tmp_path / 'resumed')

    def call(*args):
        status, error = call_tool(*args)
        assert status == 0, error

    call('train.py', configs['distill'], '--work-dir', whole, *options)
    terms = [
        step['loss_kd_cls'] for step in scalars(whole) if 'loss_kd_cls' in step
    ]
    assert len(terms) > 0 and min(terms) > 0
    # As a run that was killed after its first epoch.
    shutil.copytree(whole, resumed)
    os.remove(osp.join(resumed, 'epoch_2.pth'))
    with open(osp.join(resumed, 'last_checkpoint'), 'w') as file:
        file.write(osp.join(resumed, 'epoch_1.pth'))
    call('train.py', configs['distill'], '--work-dir', resumed, '--resume',
         *options)
    assert 'resumed epoch: 1, iter: 4' in call_tool.output
    first, expected, mine = (
        load_state(path) for path in (osp.join(whole, 'epoch_1.pth'),
                                      osp.join(whole, 'epoch_2.pth'),
                                      osp.join(resumed, 'epoch_2.pth')))
    for key in ('state_dict', 'ema_state_dict', 'optimizer',
                'param_schedulers'):
        assert_same_state(mine[key], expected[key])
    assert any(not torch.equal(value, first['state_dict'][key])
               for key, value in mine['state_dict'].items())

    for name in ('teacher.py', 'teacher.pth'):
        os.remove(str(tmp_path / name))
    checkpoint = osp.join(resumed, 'epoch_2.pth')
    call('model_converters/publish_student.py', checkpoint,
         str(tmp_path / 'student.pth'))
    published = call_tool.output.split('written: ')[1].strip()
    results = []
    for name, path in dict(distill=checkpoint, plain=published).items():
        out = str(tmp_path / f'{name}.pkl')
        call('test.py', configs[name], path, '--work-dir',
             str(tmp_path / name), '--out', out)
        with open(out, 'rb') as file:
            results.append(pickle.load(file))
    plain = init_detector(configs['plain'], published, device='cpu')
    assert list(plain.state_dict()) == list(mine['state_dict'])
    for one, other in zip(*results):
        image = inference_detector(plain, one['img_path']).pred_instances
        assert len(image) > 0
        for field in ('bboxes', 'scores', 'labels'):
            assert torch.equal(one['pred_instances'][field],
                               other['pred_instances'][field])
            torch.testing.assert_close(image[field],
                                       one['pred_instances'][field])


def scalars(folder):
    """What each step of a run logged."""
    path, = glob.glob(osp.join(folder, '*', 'vis_data', 'scalars.json'))
    with open(path) as file:
        return [json.loads(line) for line in file]


def more_classes(model):
    model.bbox_head.num_classes = 11


@pytest.mark.parametrize('family, edit, words', [
    ('retinanet', replaced(
        'distill_losses.loss_kd_cls', type='LogitKLDivLoss'),
     'LogitKLDivLoss is made for softmax heads, but the student RetinaNet '
     'classifies with sigmoid: choose a loss for sigmoid heads'),
    ('cascade',
     replaced('teacher.calibrator', type='PlattScaling', scale=2.0, bias=0.0),
     'must be made for softmax heads, the kind of the teacher CascadeRCNN, '
     'but PlattScaling is for sigmoid: use TemperatureScaling'),
    ('retinanet', replaced('teacher.calibrator', type='PlattScaling'),
     'PlattScaling must have `scale` and `bias`, or `load_from`, but has '
     'none: fit it with tools/calibrate_teacher.py'),
    ('gfl', more_classes,
     'but the teacher GFL has 10 and the student GFL 11: give a checkpoint '
     'with `meta.dataset_meta`, pairs of labels as `teacher.classes`, or '
     'change `model.teacher.config` or `model.bbox_head.num_classes`'),
])
def test_bad_student(complaint, family, edit, words):
    assert words in complaint(family, edit)


def finer(model):
    model.bbox_head.anchor_generator.strides = [4, 8, 16]


@pytest.mark.parametrize('other, edit, words', [
    ('retinanet', finer,
     'the teacher RetinaNet and the student RetinaNet must have maps of the '
     'same strides, but the teacher has [(4, 4), (8, 8), (16, 16)] and the '
     'student [(8, 8), (16, 16), (32, 32)]: choose a teacher'),
    ('faster', None,
     'the teacher FasterRCNN and the student RetinaNet have different '
     'samples: the teacher classifies RoIs and the student priors'),
])
def test_bad_pair(complaint, tmp_path, other, edit, words):

    def teach(model):
        model.teacher.update(
            write_teacher(tmp_path, other, 'other', edit, num_classes=10),
            transport='same_samples',
            calibrator=None)

    assert words in complaint('retinanet', teach)


def test_names_in_another_order_than_the_annotations(call_tool, family_configs,
                                                     tmp_path):
    """By these names the classes of a teacher are paired."""
    configs = family_configs('retinanet')
    status = {}
    for name in ('distill', 'plain'):
        cfg = Config.fromfile(configs[name])
        classes = cfg.train_dataloader.dataset.metainfo.classes
        cfg.train_dataloader.dataset.metainfo.classes = classes[::-1]
        cfg.train_cfg.update(max_epochs=1, val_interval=2)
        path = str(tmp_path / f'{name}_reversed.py')
        cfg.dump(path)
        status[name], stderr = call_tool('train.py', path, '--work-dir',
                                         str(tmp_path / name))
        if name == 'distill':
            assert ("`train_dataloader.dataset.metainfo.classes` must be in "
                    'the order of the categories of') in stderr
            assert 'Traceback' not in stderr
    # A plain detector is not kept from training: it reads no names.
    assert status == dict(distill=2, plain=0)


@pytest.fixture
def complaint(call_tool, family_configs, tmp_path):
    """The one line of tools/train.py about a distill config."""

    def train(family, edit):
        path = family_configs(family)['distill']
        cfg = Config.fromfile(path)
        edit(cfg.model)
        cfg.dump(path)
        status, stderr = call_tool('train.py', path, '--work-dir',
                                   str(tmp_path / 'run'))
        assert status == 2 and 'Traceback' not in stderr
        line, = (
            line for line in stderr.splitlines() if line.startswith('error: '))
        return line

    return train


def test_figures_of_a_dense_detector(call_tool, family_configs, digits,
                                     tmp_path, load_state):
    """Predictions, their calibration error, a map for it, and pictures."""
    configs = family_configs('retinanet')
    # As a published student: its weights are all that is there.
    checkpoint = str(tmp_path / 'teacher.pth')
    state = load_state(checkpoint)
    torch.save(dict(state, meta={}), checkpoint)
    predictions = str(tmp_path / 'predictions.pkl')
    annotations = osp.join(digits, 'annotations', 'test.json')
    report = str(tmp_path / 'report.json')
    calibration = str(tmp_path / 'calibration.json')
    picture = tmp_path / 'picture.png'
    for command in (
        ('test.py', configs['plain'], checkpoint, '--work-dir',
         str(tmp_path / 'run'), '--out', predictions),
        ('analysis_tools/eval_calibration.py', annotations, predictions,
         '--out', report),
        ('analysis_tools/recalibrate.py', 'fit', annotations, predictions,
         '--out', calibration, '--method', 'platt'),
        ('analysis_tools/recalibrate.py', 'apply', predictions, calibration,
         '--out', str(tmp_path / 'calibrated.pkl')),
        ('analysis_tools/compare_detections.py', '--out', str(picture),
         '--num-images', '1', '--model', 'student', configs['plain'],
         checkpoint, '--model', 'distiller', configs['distill'], checkpoint),
    ):
        status, error = call_tool(*command)
        assert status == 0, error
    assert picture.read_bytes().startswith(b'\x89PNG')
