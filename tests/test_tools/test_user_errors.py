"""A user's mistake: one line on stderr, exit status 2, no traceback."""
import os
import os.path as osp
import shutil

import pytest
from mmengine.config import Config


def one_line(status, stderr):
    lines = [
        line for line in stderr.splitlines() if line.startswith('error: ')
    ]
    assert status == 2, stderr
    assert len(lines) == 1 and 'Traceback' not in stderr
    return lines[0]


def train(call_tool, config, tmp_path, *options):
    return one_line(
        *call_tool('train.py', config, '--work-dir', str(tmp_path / 'run'),
                   '--cfg-options', 'train_cfg.max_epochs=1', *options))


@pytest.mark.parametrize('options, message', [
    ('model.teacher.calibrator.temperature=0', '`temperature` must be in'),
    ('model.teacher.calibrator.temperature=-1', '`temperature` must be in'),
    ('model.teacher.calibrator.temperature=nan', '`temperature` must be'),
    ('model.teacher.calibrator.temperature=warm', '`temperature` must be a'),
    ('model.distill_losses.loss_kd_cls.loss_weight=-1', '`loss_weight` must'),
    ('model.student_type=FasterRCNNN', '`student_type` must name'),
    ('model.test_cfg=x', '`model.test_cfg` must be a dict'),
    ('model.distil_losses=x',
     "'distil_losses'; did you mean 'distill_losses'?"),
    ('model.teacher.calibratr=x', "did you mean 'calibrator'?"),
    ('model.distill_losses.loss_kd_cls.loss_weigth=1',
     "did you mean 'loss_weight'?"),
    ('train_dataloader.0.batch_size=1', 'leave out `.0`'),
    ('model.teacher.checkpoint=gone.pth', "'gone.pth' does not exist"),
    ('model.teacher.config=gone.py', "'gone.py' does not exist"),
    ('model.distill_losses.loss_kd_cls.type=NoLoss', 'NoLoss is not in the'),
    ('train_dataloader.dataset.data_root=gone', "data_root` 'gone' does not"),
    ('train_dataloader.dataset.ann_file=gone.json', 'gone.json'),
])
def test_train(call_tool, run_configs, tmp_path, options, message):
    line = train(call_tool, run_configs['distill'], tmp_path, options)
    assert message in line


def test_annotations_without_images(call_tool, run_configs, tmp_path, digits):
    folder = str(tmp_path / 'digits')
    shutil.copytree(digits, folder)
    shutil.rmtree(osp.join(folder, 'train'))
    line = train(call_tool, run_configs['distill'], tmp_path,
                 f'train_dataloader.dataset.data_root={folder}')
    assert 'the images are missing' in line and 'data_prefix.img' in line


@pytest.mark.parametrize('content, message', [
    (None, 'config'),
    ('model = dict(', 'cannot be read'),
    ("_base_ = './gone.py'", 'gone.py'),
])
def test_config_file(call_tool, tmp_path, content, message):
    path = str(tmp_path / 'config.py')
    if content is not None:
        with open(path, 'w') as file:
            file.write(content)
    assert message in one_line(*call_tool('train.py', path))


def test_metric_without_ground_truth(call_tool, run_configs, tmp_path):
    cfg = Config.fromfile(run_configs['plain'])
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'] = [
            dict(type='tcal_det.DetectionCalibrationMetric')
        ]
    path = str(tmp_path / 'config.py')
    cfg.dump(path)
    for split, line in (('val', train(call_tool, path, tmp_path)),
                        ('test',
                         one_line(*call_tool('test.py', path, __file__)))):
        assert f'`{split}_evaluator`' in line and '`ann_file`' in line


def test_checkpoint_to_test_is_missing(call_tool, run_configs):
    line = one_line(*call_tool('test.py', run_configs['plain'], 'gone.pth'))
    assert "checkpoint 'gone.pth' does not exist" in line


def test_tta_that_the_config_does_not_describe(call_tool, run_configs):
    line = one_line(
        *call_tool('test.py', run_configs['plain'], __file__, '--tta'))
    assert '`--tta` needs `tta_model` and `tta_pipeline`' in line


@pytest.mark.parametrize('option', ['class_probabilities', 'recalibrator'])
def test_options_of_another_model_type(call_tool, run_configs, option):
    line = one_line(
        *call_tool('test.py', run_configs['plain'], __file__, '--cfg-options',
                   f'model.test_cfg.{option}=True'))
    assert f"`model.test_cfg.{option}`" in line
    assert "'FasterRCNN' ignores it" in line
    assert "model.detector_type='FasterRCNN'" in line


def test_split_that_the_config_does_not_have(call_tool, run_configs):
    line = one_line(
        *call_tool('test.py', run_configs['plain'], __file__, '--split', 'val',
                   '--cfg-options', 'val_evaluator=None'))
    assert '`--split val` needs `val_evaluator`' in line


def test_out_of_the_wrong_kind(call_tool, run_configs):
    line = one_line(*call_tool('test.py', run_configs['plain'], 'gone.pth',
                               '--out', 'predictions.json'))
    assert '`--out` must end in .pkl' in line


def test_resume_from_a_missing_checkpoint(call_tool, run_configs, tmp_path):
    line = one_line(*call_tool('train.py', run_configs['plain'], '--work-dir',
                               str(tmp_path), '--resume', 'gone.pth'))
    assert "`--resume` 'gone.pth' does not exist" in line


def test_digits_folder_is_not_overwritten(start_tool, digits):
    before = os.listdir(digits)
    # A process of its own: the command imports the file beside it.
    process = start_tool('dataset_converters/digits_to_coco.py', '--out',
                         digits).wait()
    line = one_line(process.returncode, process.stdout)
    assert '`out` must not exist' in line
    assert os.listdir(digits) == before


@pytest.mark.parametrize('checkpoint, message', [
    ('gone.pth', 'does not exist'),
    (__file__, 'cannot be read'),
])
def test_nothing_to_publish(call_tool, tmp_path, checkpoint, message):
    out = str(tmp_path / 'student.pth')
    line = one_line(
        *call_tool('model_converters/publish_student.py', checkpoint, out))
    assert message in line and not osp.exists(out)


@pytest.mark.parametrize('option', [
    'train_cfg.max_epochs.x=1', 'resume.x=1', 'val_evaluator.type.x=1',
    'custom_hooks.7.type=EMAHook'
])
def test_option_that_leads_nowhere(call_tool, run_configs, tmp_path, option):
    line = train(call_tool, run_configs['plain'], tmp_path, 'resume=None',
                 option)
    key = option.split('=')[0]
    assert '`--cfg-options` must set dict' in line and f'got {key}=' in line


def test_predictions_that_cannot_be_written(call_tool, run_configs, tmp_path):
    """Said before the images are predicted, not after."""
    (tmp_path / 'file').write_text('')
    checkpoint = tmp_path / 'any.pth'
    checkpoint.write_bytes(b'')
    line = one_line(*call_tool('test.py', run_configs['plain'], str(
        checkpoint), '--out', str(tmp_path / 'file' / 'results.pkl')))
    assert '`--out` must be in a folder' in line
