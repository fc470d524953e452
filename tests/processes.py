"""Processes that fork from a server, which has imported mmdet once.

A new interpreter needs seconds for these imports. What a user's own start
imports is tested elsewhere, in new interpreters.
"""
import multiprocessing
import os
import os.path as osp
import runpy
import subprocess
import sys
import time

import torch
import torch.multiprocessing

# After which a process that does not end has failed.
SECONDS = 300
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['mmdet.apis', 'tcal_det.engine', 'tcal_det.evaluation.metrics'])


def run_ranks(function, *args):
    """Run a function in two processes, until both end.

    Args:
        function (callable): Takes the rank, 0 or 1, and ``args``.
        *args: Further arguments, which can be pickled.
    """
    ranks = torch.multiprocessing.start_processes(
        function,
        args,
        nprocs=2,
        join=False,
        start_method=CONTEXT.get_start_method())
    deadline = time.monotonic() + SECONDS
    while not ranks.join(timeout=5):
        if time.monotonic() > deadline:
            for process in ranks.processes:
                process.kill()
            raise TimeoutError(f'{function.__name__} has not ended')


class ScriptProcess:
    """A Python file that runs as a program.

    Args:
        folder (str): Working directory of the process.
        output (str): File for its output and its errors.
        path (str): The Python file.
        *args (str): Its arguments.
    """

    def __init__(self, folder, output, path, *args):
        self._output = output
        self._arguments = [path, *args]
        self._process = CONTEXT.Process(
            target=_run, args=(folder, output, self._arguments))
        self._process.start()

    def poll(self):
        """The exit status; None while it runs."""
        return self._process.exitcode

    def kill(self):
        self._process.kill()
        self._process.join()

    def wait(self, timeout=SECONDS):
        """Wait for the end; the result as of ``subprocess.run``."""
        self._process.join(timeout)
        if self.poll() is None:
            self.kill()
            raise subprocess.TimeoutExpired(self._arguments, timeout)
        with open(self._output, encoding='utf-8') as file:
            return subprocess.CompletedProcess(self._arguments, self.poll(),
                                               file.read())


def _run(folder, output, arguments):
    os.chdir(folder)
    torch.set_num_threads(1)
    with open(output, 'wb') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = arguments
    # As of a program that is started by its path.
    sys.path.insert(0, osp.dirname(osp.abspath(arguments[0])))
    runpy.run_path(arguments[0], run_name='__main__')
