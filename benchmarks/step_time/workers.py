"""A process for each variant, so that its peak memory is its own."""
import json
import multiprocessing
import os
import os.path as osp
import resource
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from typing import Any, Callable, Dict

import torch
from torch.profiler import ProfilerActivity, profile

from .mmrazor import UnavailableError
from .variants import VARIANTS
from .workload import Case, Workload

# The profiler else announces its stages on stderr.
os.environ.setdefault('KINETO_LOG_LEVEL', '5')
# Linux: writing 5 there makes VmHWM begin anew.
CLEAR_REFS = '/proc/self/clear_refs'


class Worker:
    """One variant in a process that does nothing unless asked.

    Args:
        variant (str): Key of ``VARIANTS``.
        case (Case): What it is to do.

    Raises:
        UnavailableError: If the variant cannot run here.
        RuntimeError: If it failed, with its traceback.
    """

    def __init__(self, variant: str, case: Case) -> None:
        context = multiprocessing.get_context('forkserver')
        # Imported once, not by every worker.
        context.set_forkserver_preload(['mmdet.models', 'mmengine.runner'])
        self._variant = variant
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, variant, case), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._receive()
        except Exception:
            self.close()
            raise

    def step(self, seed: int) -> float:
        """Seconds of the step on one batch."""
        self._connection.send(seed)
        return self._receive()['seconds']

    def memory(self) -> Dict[str, int]:
        """Bytes, asked for once, after the last step.

        Returns:
            dict[str, int]: ``peak`` since the models were built; ``step``,
            what a step held at most beside weights, optimizer state and
            images; ``logits``, the size of the student's for its samples, or
            None where the variant does not compute them by themselves.
        """
        self._connection.send(None)
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Dict[str, Any]:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError(
                f'the process of {self._variant} was ended, perhaps for want '
                'of memory') from None
        if 'unavailable' in answer:
            raise UnavailableError(answer['unavailable'])
        if 'failure' in answer:
            raise RuntimeError(answer['failure'])
        return answer


def _serve(connection: Connection, variant: str, case: Case) -> None:
    warnings.simplefilter('ignore')
    with open(os.devnull, 'w') as nowhere, redirect_stdout(
            nowhere), redirect_stderr(nowhere):
        try:
            _answer(connection, variant, case)
        except UnavailableError as error:
            connection.send(dict(unavailable=str(error)))
        except Exception:
            connection.send(dict(failure=traceback.format_exc()))


def _answer(connection: Connection, variant: str, case: Case) -> None:
    workload = Workload(case)
    prepare = VARIANTS[variant](workload)
    # Makes the optimizer's state, and memory of the size that steps need.
    prepare(0)()
    _forget_peak_memory(case.device)
    connection.send({})
    for seed in iter(connection.recv, None):
        step = prepare(seed)
        _synchronize(case.device)
        begin = time.perf_counter()
        step()
        _synchronize(case.device)
        connection.send(dict(seconds=time.perf_counter() - begin))
    peak = _peak_memory(case.device)
    connection.send(
        dict(
            peak=peak,
            step=step_memory(prepare(0), case.device),
            logits=workload.logit_bytes))


def step_memory(step: Callable[[], Any], device: str) -> int:
    """Bytes of tensors that were alive at once and are made by a step.

    The same in each run, whatever else the machine does: on CPU allocations
    of tensors are counted, without what oneDNN takes for itself.

    Args:
        step (Callable): Is called once.
        device (str): 'cpu' or 'cuda'.
    """
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(
            activities=[ProfilerActivity.CPU],
            profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = osp.join(folder, 'trace.json')
        profiler.export_chrome_trace(path)
        with open(path) as file:
            events = json.load(file)['traceEvents']
    totals = [(event['ts'], event['args']['Total Allocated'],
               event['args']['Bytes']) for event in events
              if event['name'] == '[memory]']
    if not totals:
        return 0
    # Some of an earlier profile may be in it.
    _, total, first = min(totals)
    return max(one for _, one, _ in totals) - (total - first)


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _forget_peak_memory(device: str) -> None:
    """Building takes more than a step may: weights are read and copied."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    elif osp.exists(CLEAR_REFS):
        with open(CLEAR_REFS, 'w') as file:
            file.write('5')


def _peak_memory(device: str) -> int:
    """Bytes of tensors on CUDA, else of the whole process."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated()
    try:
        with open('/proc/self/status') as file:
            # Unlike ru_maxrss not inherited from the parent process.
            peak = next(line for line in file if line.startswith('VmHWM'))
        return int(peak.split()[1]) * 1024
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == 'darwin' else 1024)
