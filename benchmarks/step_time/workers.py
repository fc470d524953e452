"""Processes of the variants, so that each has its own peak memory."""
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

# Without this the profiler prints its stages on stderr.
os.environ.setdefault('KINETO_LOG_LEVEL', '5')
# On Linux, writing 5 to this file resets VmHWM.
CLEAR_REFS = '/proc/self/clear_refs'


class Worker:
    """Process of one variant, which waits for requests.

    Args:
        variant (str): Key of ``VARIANTS``.
        case (Case): Case to measure.

    Raises:
        UnavailableError: If the variant cannot run.
        RuntimeError: If the variant fails; the message is its traceback.
    """

    def __init__(self, variant: str, case: Case) -> None:
        context = multiprocessing.get_context('forkserver')
        # Imported once instead of by every worker.
        context.set_forkserver_preload(['mmdet.models', 'mmengine.runner'])
        self._variant = variant
        self._connection, worker_connection = context.Pipe()
        self._process = context.Process(
            target=_run_worker,
            args=(worker_connection, variant, case),
            daemon=True)
        self._process.start()
        worker_connection.close()
        try:
            self._receive()
        except Exception:
            self.close()
            raise

    def step(self, seed: int) -> float:
        """Run the step on one batch.

        Args:
            seed (int): Number of the batch.

        Returns:
            float: Wall time in seconds.
        """
        self._connection.send(seed)
        return self._receive()['seconds']

    def memory(self) -> Dict[str, int]:
        """Return the memory in bytes; call it once, after the last step.

        Returns:
            dict[str, int]: ``peak``, since the models were built; ``step``,
            peak of a step's tensors without weights, optimizer state and
            images; ``logits``, size of the student's logits, or None if the
            variant does not compute them separately.
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
            response = self._connection.recv()
        except EOFError:
            raise RuntimeError(
                f'the process of {self._variant} was killed, perhaps because '
                'it ran out of memory') from None
        if 'unavailable' in response:
            raise UnavailableError(response['unavailable'])
        if 'failure' in response:
            raise RuntimeError(response['failure'])
        return response


def _run_worker(connection: Connection, variant: str, case: Case) -> None:
    warnings.simplefilter('ignore')
    with open(os.devnull, 'w') as devnull, redirect_stdout(
            devnull), redirect_stderr(devnull):
        try:
            process_requests(connection, variant, case)
        except UnavailableError as error:
            connection.send(dict(unavailable=str(error)))
        except Exception:
            connection.send(dict(failure=traceback.format_exc()))


def process_requests(connection: Connection, variant: str, case: Case) -> None:
    """Time a step for each seed that is received, until None.

    Args:
        connection (Connection): Connection to the comparison. An empty
            answer says that the variant is ready; then each step is
            answered with its seconds, and None with the memory in bytes.
        variant (str): Key of ``VARIANTS``.
        case (Case): Case of the comparison.
    """
    workload = Workload(case)
    prepare = VARIANTS[variant](workload)
    # Creates the optimizer's state, and allocates the memory of a step.
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
    """Return the peak memory of the tensors that a step allocates.

    The result does not depend on other processes: on a CPU the allocations
    of tensors are counted, without the internal memory of oneDNN.

    Args:
        step (Callable): Step, which is called once.
        device (str): Device of the step, 'cpu' or 'cuda'.

    Returns:
        int: Peak memory in bytes.
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
    # The total may include memory of an earlier profile.
    _, total, first = min(totals)
    return max(allocated for _, allocated, _ in totals) - (total - first)


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _forget_peak_memory(device: str) -> None:
    """Reset the peak memory, which building a model may have increased."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    elif osp.exists(CLEAR_REFS):
        with open(CLEAR_REFS, 'w') as file:
            file.write('5')


def _peak_memory(device: str) -> int:
    """Return the peak bytes of tensors on CUDA, else of the process."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated()
    try:
        with open('/proc/self/status') as file:
            # Unlike ru_maxrss, VmHWM is not inherited from the parent process.
            peak = next(line for line in file if line.startswith('VmHWM'))
        return int(peak.split()[1]) * 1024
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == 'darwin' else 1024)
