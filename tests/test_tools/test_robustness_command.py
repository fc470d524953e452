"""tools/analysis_tools/robustness.py"""
import json
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

TOOL = 'analysis_tools/robustness.py'
QUICK = ('--corruptions', 'none', '--attacks', 'fgsm', '--epsilons', '0', '4',
         '--num-resamples', '0')


@pytest.fixture
def checkpoint(run_configs, tmp_path):
    """Of the detector of all configs; it finds something."""
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(run_configs['plain']).model)
    model.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.5)
    path = str(tmp_path / 'detector.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture
def robustness(call_tool, run_configs, checkpoint, tmp_path):
    """Run the command; status, error output, and what was written."""
    out = tmp_path / 'folder' / 'robust'

    def run(*options, config='plain'):
        status, error = call_tool(TOOL, run_configs[config], checkpoint,
                                  '--out', str(out), *options)
        content = None
        if out.with_suffix('.json').exists():
            content = json.loads(out.with_suffix('.json').read_text())
        return status, error, content

    run.out, run.call_tool = out, call_tool
    return run


def figures_of(content, **shift):
    """Figures of a cell, without its shift."""
    cell, = (
        cell for cell in content['cells']
        if all(cell[key] == value for key, value in shift.items()))
    return {
        key: cell[key]
        for key in ('mAP', 'AP50', 'd_ece', 'laece_0', 'num_detections')
    }


def test_writes_table_picture_and_numbers(robustness):
    status, error, content = robustness(*QUICK)
    assert status == 0, error
    clean = figures_of(content, kind='clean')
    assert clean['num_detections'] > 0 and clean['d_ece']['value'] > 0
    assert figures_of(content, name='fgsm', strength=0.0) == clean
    assert figures_of(content, name='fgsm', strength=4.0) != clean
    assert content['num_images'] == 4 and content['split'] == 'test'
    text = robustness.out.with_suffix('.md').read_text()
    assert text.startswith('# plain.py on 4 images of the test split')
    assert '| FGSM 4/255' in text
    assert '| FGSM 4/255' in robustness.call_tool.output
    assert robustness.out.with_suffix('.png').read_bytes()[:4] == b'\x89PNG'


def test_distill_config_gives_the_same(robustness):
    """Without the files of its teacher."""
    _, error, plain = robustness(*QUICK)
    robustness.out.with_suffix('.cells.json').unlink()
    status, error, student = robustness(
        *QUICK,
        '--cfg-options',
        'model.teacher.checkpoint=missing.pth',
        config='distill')
    assert status == 0, error
    assert student['cells'] == plain['cells']


def test_goes_on(robustness):
    status, error, first = robustness(*QUICK)
    assert status == 0, error
    status, error, second = robustness(*QUICK, '--epsilons', '0', '4', '8')
    assert status == 0, error
    output = robustness.call_tool.output
    assert '3 cells taken over from' in output
    assert 'cells.json: clean, fgsm 0 4\n' in output
    assert 'cell 1 of 1' in output
    assert figures_of(second, strength=4.0) == figures_of(first, strength=4.0)
    assert {cell['strength'] for cell in second['cells']} == {0.0, 4.0, 8.0}
    status, error, _ = robustness(*QUICK, '--seed', '1')
    assert status == 2 and 'measured with another seed' in error


def test_corruptions(robustness):
    pytest.importorskip('imagecorruptions')
    options = ('--corruptions', 'gaussian_noise', 'contrast', '--severities',
               '1', '5', '--attacks', 'none', '--num-resamples', '40',
               '--max-images', '3')
    status, error, content = robustness(*options)
    assert status == 0, error
    assert content['num_images'] == 3
    assert len(content['cells']) == 5
    assert set(content['by_severity']) == {'1', '5'}
    mean = content['mPC']['d_ece']
    assert mean['value'] == pytest.approx(
        sum(cell['d_ece']['value'] for cell in content['cells'][1:]) / 4)
    assert mean['low'] <= mean['value'] <= mean['high']
    text = robustness.out.with_suffix('.md').read_text()
    assert '## Corruptions, mean over severities' in text


def test_missing_package(robustness, monkeypatch):
    monkeypatch.setitem(sys.modules, 'imagecorruptions.corruptions', None)
    monkeypatch.setitem(sys.modules, 'imagecorruptions', None)
    status, error, _ = robustness()
    assert status == 2 and error.count('\n') == 1
    assert 'pip install imagecorruptions-imaug' in error


@pytest.mark.parametrize('options, message', [
    (('--epsilons', '-1'), '`--epsilons` must be in [0, inf)'),
    (('--epsilons', 'nan'), '`--epsilons` must be in [0, inf)'),
    (('--epsilons', '300'), '`--epsilons` must be in [0, 255]'),
    (('--corruptions', 'fog', 'none'), '`--corruptions` must be names or no'),
    (('--corruptions', 'fogs'), "invalid choice: 'fogs'"),
    (('--attacks', 'none', 'pgd'), '`--attacks` must be names or none'),
    (('--severities', '6'), 'invalid choice: 6'),
    (('--num-resamples', '-1'), '`--num-resamples` must be >= 0'),
    (('--num-resamples', '30'), '`--num-resamples` must be >= 40'),
    (('--seed', '-1'), '`--seed` must be >= 0'),
    (('--max-images', '0'), '`--max-images` must be >= 1'),
    (('--split', 'none'), "invalid choice: 'none'"),
    (('--out', '/'), '`--out` must be the beginning'),
    (('--cfg-options', 'test_dataloader=None'), '`test_dataloader`'),
    (('--cfg-options', 'test_dataloader.dataset.ann_file=no.json'), 'no.json'),
    (('--cfg-options', 'model.train_cfg=None'), '--attacks none'),
    (('--cfg-options', 'model.roi_head.bbox_head.num_classes=3'),
     'does not fit its config'),
])
def test_mistakes(robustness, options, message):
    """One line, and nothing is written."""
    status, error, content = robustness(
        *(() if '--corruptions' in options else ('--corruptions', 'none')),
        *options)
    assert status == 2, error
    assert message in error and 'Traceback' not in error
    assert content is None
    assert not robustness.out.with_suffix('.cells.json').exists()


def test_missing_files(robustness, run_configs, checkpoint, tmp_path):
    for config, weights, message in (('none.py', checkpoint,
                                      "config 'none.py' does not exist"),
                                     (run_configs['plain'], 'none.pth',
                                      'none.pth')):
        status, error = robustness.call_tool(TOOL, config, weights, '--out',
                                             str(tmp_path / 'out'), *QUICK)
        assert status == 2 and message in error, error


def test_partial_checkpoint(robustness, checkpoint):
    content = torch.load(checkpoint)
    content['state_dict'].pop('roi_head.bbox_head.fc_reg.bias')
    torch.save(content, checkpoint)
    status, error, _ = robustness(*QUICK)
    assert status == 2 and '--allow-partial' in error
    status, error, _ = robustness(*QUICK, '--allow-partial')
    assert status == 0, error


def test_warns_of_images_of_the_training(robustness):
    status, error, _ = robustness(*QUICK, '--split', 'train')
    assert status == 0, error
    assert 'the config trains on the ' in robustness.call_tool.output
