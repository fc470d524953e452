"""What surrounds the Runner, where no tool's own test reaches it."""
import os
import subprocess
import sys

import pytest

from tcal_det.engine.training import leave_process_group

# Before torch 2.4, about one in four of these partings waits for ever where
# the group is destroyed at once.
PARTINGS = """
import sys
import torch
import torch.distributed as dist
from tcal_det.engine import training
rank, meeting_point = int(sys.argv[1]), sys.argv[2]
training.GLOO_RELEASE_SECONDS = 0.05
for i in range(30):
    dist.init_process_group(
        'gloo', init_method=f'file://{meeting_point}{i}', rank=rank,
        world_size=2)
    dist.broadcast_object_list([i])
    training.leave_process_group()
    assert not dist.is_initialized()
"""


def test_single_process_has_no_group_to_leave():
    leave_process_group()


@pytest.mark.slow
def test_processes_part_right_after_a_collective(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', PARTINGS, rank,
             str(tmp_path / 'meet')],
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True) for rank in '01'
    ]
    try:
        for process in processes:
            output = process.communicate(timeout=60)[0]
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
