"""What surrounds the Runner, where no tool's own test reaches it."""
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope

from tcal_det.dataset_files import check_data
from tcal_det.engine import training
from tcal_det.engine.training import leave_process_group, use_mixed_precision
from tcal_det.errors import MissingFileError
from tests.processes import run_ranks


def test_single_process_has_no_group_to_leave():
    leave_process_group()


def part_thirty_times(rank, meeting_point):
    training.GLOO_RELEASE_SECONDS = 0.05
    for i in range(30):
        dist.init_process_group(
            'gloo',
            init_method=f'file://{meeting_point}{i}',
            rank=rank,
            world_size=2)
        dist.broadcast_object_list([i])
        leave_process_group()
        assert not dist.is_initialized()


@pytest.mark.slow
def test_processes_part_right_after_a_collective(tmp_path):
    """Before torch 2.4, about one in four would wait for ever otherwise."""
    run_ranks(part_thirty_times, str(tmp_path / 'meet'))


class TestCheckData:
    """Refuses what would fail later, and nothing that mmdet runs."""

    @staticmethod
    def check(**dataset):
        check_data(
            Config(dict(train_dataloader=dict(dataset=dataset))),
            'train_dataloader')

    def test_data_sets_without_one_annotation_file(self, tmp_path):
        self.check(type='Custom', data_root=str(tmp_path))
        self.check(type='Custom', ann_file=['a.json', 'b.json'])

    def test_annotations_with_whole_paths(self, tmp_path):
        ann_file = tmp_path / 'train.json'
        ann_file.write_text('{}')
        self.check(ann_file=str(ann_file), data_prefix=dict(img=''))

    def test_missing_files(self, tmp_path):
        with pytest.raises(MissingFileError, match="ann_file` 'gone.json'"):
            self.check(ann_file='gone.json')
        with pytest.raises(MissingFileError, match='images are missing'):
            self.check(data_root=str(tmp_path), data_prefix=dict(img='gone'))


@pytest.mark.parametrize('has_gpu, name, kept', [
    (True, 'AmpOptimWrapper', dict(loss_scale='dynamic', dtype='float16')),
    (False, 'CPUAmpOptimWrapper', {}),
])
@pytest.mark.parametrize('scope', ['mmdet', None])
def test_amp(monkeypatch, tmp_path, scope, has_gpu, name, kept):
    """Without a GPU nothing is left that only a GPU needs."""
    monkeypatch.setattr('tcal_det.engine.training.is_cuda_available',
                        lambda: has_gpu)
    optimizer = dict(type='SGD', lr=0.1)
    cfg = Config(
        dict(
            optim_wrapper=dict(
                type='AmpOptimWrapper',
                loss_scale='dynamic',
                dtype='float16',
                optimizer=optimizer)))
    use_mixed_precision(cfg)
    # A run writes its config, and others read it.
    cfg.dump(str(tmp_path / 'config.py'))
    found = Config.fromfile(str(tmp_path / 'config.py')).optim_wrapper
    # A new-style config has no default scope.
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    with OPTIM_WRAPPERS.switch_scope_and_registry(scope) as registry:
        wrapper = registry.get(found.pop('type'))
    assert wrapper.__name__ == name
    assert found.to_dict() == dict(kept, optimizer=optimizer)


def test_amp_step_without_a_default_scope(monkeypatch):
    """Built as the Runner builds it from a new-style config."""
    monkeypatch.setattr('tcal_det.engine.training.is_cuda_available',
                        lambda: False)
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    cfg = Config(
        dict(
            optim_wrapper=dict(
                type='mmengine.optim.OptimWrapper',
                optimizer=dict(type='torch.optim.SGD', lr=0.1))))
    use_mixed_precision(cfg)
    model = torch.nn.Linear(2, 1)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 2)).dtype == torch.bfloat16
