"""What a user sees of sampling policies and of losses on RoIs."""
from glob import glob

import pytest
from mmengine.config import Config

from tests import head_families

SPECULATIVE = dict(type='SpeculativeSamples', top_k=8)


def config_of(run_configs, tmp_path, edit):
    cfg = Config.fromfile(run_configs['distill'])
    edit(cfg)
    path = str(tmp_path / 'policy.py')
    cfg.dump(path)
    return path


def dense_pair(tmp_path, loss=None, sampling=None):
    """The model of a RetinaNet that another teaches."""

    def edit(cfg):
        files = head_families.write_teacher(
            tmp_path, 'retinanet', name='dense', num_classes=10)
        cfg.model = head_families.distiller_cfg(
            'retinanet', files, calibrator=None, loss=loss, num_classes=10)
        if sampling is not None:
            cfg.model.teacher.sampling = sampling

    return edit


def test_acceptance_rate_is_in_the_log(call_tool, run_configs, tmp_path):

    def edit(cfg):
        cfg.model.teacher.sampling = SPECULATIVE
        cfg.train_cfg.max_epochs = 1

    run = tmp_path / 'run'
    status, stderr = call_tool('train.py',
                               config_of(run_configs, tmp_path, edit),
                               '--work-dir', str(run))
    assert status == 0, stderr
    (log, ) = glob(str(run / '*' / '*.log'))
    with open(log, encoding='utf-8') as file:
        text = file.read()
    assert 'acceptance_rate: 0.' in text
    assert 'transport: same_samples, SpeculativeSamples(top_k=8)' in text


@pytest.mark.parametrize('loss, sampling', [
    (dict(type='KDIGALoss'), None),
    (dict(type='PretrainingStateLoss', in_features=8), None),
    (None, SPECULATIVE),
])
def test_dense_pair_is_refused_in_one_line(call_tool, run_configs, tmp_path,
                                           loss, sampling):
    path = config_of(run_configs, tmp_path, dense_pair(tmp_path, loss,
                                                       sampling))
    status, stderr = call_tool('train.py', path, '--work-dir',
                               str(tmp_path / 'run'))
    (line, ) = (
        one for one in stderr.splitlines() if one.startswith('error: '))
    assert status == 2 and 'Traceback' not in stderr
    assert 'the teacher RetinaNet' in line and 'the student RetinaNet' in line
    # The remedy.
    assert ': choose ' in line or ': leave it out' in line
