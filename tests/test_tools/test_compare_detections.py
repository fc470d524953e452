"""tools/analysis_tools/compare_detections.py, in this process."""
import json
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

TOOL = 'analysis_tools/compare_detections.py'


@pytest.fixture
def complaint(call_tool):
    """The one line that a user's mistake gives, before a model is built."""

    def run(out, *models):
        options = [part for model in models for part in ('--model', *model)]
        status, stderr = call_tool(TOOL, '--out', str(out), *options)
        assert status == 2 and 'Traceback' not in stderr
        lines = stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith('error: ')
        return lines[0]

    return run


def test_two_models(call_tool, run_configs, teacher_files, tmp_path):
    """Of one config: building the first leaves that of the second alone."""
    checkpoint = teacher_files(num_classes=10, width=8)['checkpoint']
    model = (run_configs['plain'], checkpoint)
    out = tmp_path / 'new' / 'grid.png'
    status, stderr = call_tool(TOOL, '--out', str(out), '--num-images', '1',
                               '--model', 'a', *model, '--model', 'b', *model)
    assert status == 0, stderr
    assert out.read_bytes().startswith(b'\x89PNG')


def test_missing_files(complaint, run_configs, tmp_path):
    """Of any of the models; what exists here is no checkpoint."""
    out, plain = tmp_path / 'new' / 'grid.png', run_configs['plain']
    assert "'gone.py'" in complaint(out, ('a', plain, __file__),
                                    ('b', 'gone.py', __file__))
    assert "checkpoint 'gone.pth' does not exist" in complaint(
        out, ('a', plain, __file__), ('b', plain, 'gone.pth'))
    assert not os.path.exists(str(out.parent))


def test_impossible_out(complaint, run_configs, tmp_path):
    model = ('a', run_configs['plain'], __file__)
    assert 'must end with' in complaint(tmp_path / 'grid.doc', model)
    (tmp_path / 'file').write_text('')
    line = complaint(tmp_path / 'file' / 'grid.png', model)
    assert '`--out` must be in a folder' in line


def test_checkpoint_of_another_model(complaint, call_tool, run_configs,
                                     teacher_files, tmp_path):
    """Missing weights would be random ones; some may mean it."""
    checkpoint = teacher_files(num_classes=10, width=8)['checkpoint']
    state = torch.load(checkpoint)['state_dict']
    kept = {key: value for key, value in state.items() if 'neck' not in key}
    torch.save(kept, checkpoint)
    model = ('a', run_configs['plain'], checkpoint)
    line = complaint(tmp_path / 'grid.png', model)
    assert 'keys (neck.' in line and 'missing' in line
    assert '--allow-partial' in line
    out = tmp_path / 'partial.png'
    status, stderr = call_tool(TOOL, '--out', str(out), '--num-images', '1',
                               '--allow-partial', '--model', *model)
    assert status == 0, stderr
    assert out.exists()


HELP = """
import runpy, sys
tool = sys.argv[1]
sys.argv = [tool, '--help']
try:
    runpy.run_path(tool, run_name='__main__')
finally:
    print({'torch', 'mmengine', 'mmdet'} & set(sys.modules), file=sys.stderr)
"""


def test_help_waits_for_no_import():
    process = subprocess.run(
        [sys.executable, '-c', HELP,
         os.path.join('tools', TOOL)],
        env=dict(os.environ, PYTHONPATH=os.getcwd()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=True,
        universal_newlines=True)
    assert process.stderr.strip() == 'set()'
    assert '--no-masks' in process.stdout


@pytest.mark.parametrize('where', ['checkpoint', 'data set'])
def test_class_names_that_look_like_formulas(call_tool, run_configs,
                                             teacher_files, tmp_path, where):
    """Those of the checkpoint and those of the data set are painted."""
    names = tuple(f'$\\frac{{{k}$' for k in range(10))
    checkpoint = teacher_files(num_classes=10, width=8)['checkpoint']
    content = torch.load(checkpoint)
    config = run_configs['plain']
    if where == 'checkpoint':
        content['meta'] = dict(dataset_meta=dict(classes=names))
        torch.save(content, checkpoint)
    else:
        cfg = Config.fromfile(config)
        dataset = cfg.test_dataloader.dataset
        path = os.path.join(dataset.data_root, dataset.ann_file)
        with open(path) as file:
            annotations = json.load(file)
        for category, name in zip(annotations['categories'], names):
            category['name'] = name
        dataset.ann_file = str(tmp_path / 'named.json')
        with open(dataset.ann_file, 'w') as file:
            json.dump(annotations, file)
        dataset.metainfo = dict(classes=names)
        config = str(tmp_path / 'named.py')
        cfg.dump(config)
    out = tmp_path / 'grid.png'
    status, stderr = call_tool(TOOL, '--out', str(out), '--num-images', '1',
                               '--score-thr', '0', '--model', 'a', config,
                               checkpoint)
    assert status == 0, stderr
    assert out.read_bytes().startswith(b'\x89PNG')
