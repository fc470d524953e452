"""Losses on boxes through tools/train.py."""
import pytest
from mmengine.config import Config

LOSSES = dict(
    loss_box=dict(type='BoxDistillationLoss', loss_weight=2.0),
    loss_rpn=dict(type='RPNDistillationLoss'))


def with_losses(path, tmp_path, losses):
    cfg = Config.fromfile(path)
    cfg.model.distill_losses.update(losses)
    path = str(tmp_path / 'boxes.py')
    cfg.dump(path)
    return path


def test_student_of_the_wrong_form(call_tool, run_configs, tmp_path):
    """One line that names both models, and exit status 2."""
    path = with_losses(run_configs['distill'], tmp_path,
                       dict(loss_ld=dict(type='LocalizationDistillationLoss')))
    status, stderr = call_tool('train.py', path, '--work-dir',
                               str(tmp_path / 'run'))
    lines = [
        line for line in stderr.splitlines() if line.startswith('error: ')
    ]
    assert status == 2 and 'Traceback' not in stderr
    assert lines == [
        'error: `distill_losses.loss_ld` LocalizationDistillationLoss cannot '
        'be computed: the teacher FasterRCNN of the student FasterRCNN cannot '
        'teach it distributions of box edges, as the student predicts none '
        '(only a GFLHead does): choose BoxDistillationLoss'
    ]


@pytest.mark.slow
def test_run_with_all_that_an_rcnn_can_learn(call_tool, run_configs, tmp_path,
                                             load_state):
    path = with_losses(run_configs['distill'], tmp_path, LOSSES)
    status, stderr = call_tool('train.py', path, '--work-dir',
                               str(tmp_path / 'run'), '--cfg-options',
                               'train_cfg.max_epochs=1',
                               'default_hooks.logger.interval=1')
    assert status == 0, stderr
    for name in LOSSES:
        assert f'{name}: ' in call_tool.output
    # Nothing of it is in the student.
    keys = set(load_state(str(tmp_path / 'run' / 'epoch_1.pth'))['state_dict'])
    assert not any('distill' in key for key in keys)
