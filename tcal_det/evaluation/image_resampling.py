"""Bootstrap resamples of the images, computed by several processes.

Images are drawn with replacement, each with all of its detections, because
detections of one image are not independent. A resample depends only on the
seed and on its number, and resamples are computed in groups of a fixed size.
So the result does not depend on the number of processes, bit for bit.
"""
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import (Any, Callable, Dict, Iterator, List, Optional, Sequence,
                    Tuple)

import numpy as np

from tcal_det.checks import check_count
from tcal_det.errors import TcalDetWarning

Figures = Dict[str, np.ndarray]
Progress = Callable[[int, int], None]

# Number of resamples that are computed at a time: enough for numpy, and few
# enough for the cache of the processor.
_GROUP = 16
# Windows cannot wait for more processes.
_MOST_WORKERS = 61


def draw_multiplicities(num_images: int, seed: int, first: int,
                        last: int) -> np.ndarray:
    """Draw how often each image occurs in some of the resamples.

    Args:
        num_images (int): Number of images I.
        seed (int): Random seed of all resamples.
        first (int): Number of the first resample.
        last (int): Number of the last resample plus 1.

    Returns:
        ndarray: Whole numbers as float64, shape (I, last - first). Each column
        adds up to I.
    """
    columns = np.empty((num_images, last - first))
    for number in range(first, last):
        rng = np.random.default_rng(
            np.random.SeedSequence(seed, spawn_key=(number, )))
        columns[:, number - first] = np.bincount(
            rng.integers(0, num_images, num_images), minlength=num_images)
    return columns


def resample_images(functions: Sequence[Callable[[np.ndarray], Figures]],
                    num_images: int,
                    num_resamples: int,
                    seed: int = 0,
                    num_workers: Optional[int] = None,
                    progress: Optional[Progress] = None) -> List[Figures]:
    """Compute figures of each resample, the same resamples for all functions.

    Args:
        functions (Sequence[Callable]): Functions from multiplicities of shape
            (I, B) to figures of shape (B,). They must be picklable, as they
            are sent to other processes.
        num_images (int): Number of images I.
        num_resamples (int): Number of resamples B.
        seed (int): Random seed of the resamples. Defaults to 0.
        num_workers (int, optional): Number of processes; 1 uses the current
            process. Defaults to None, which takes OMP_NUM_THREADS if it is
            set, else the number of processors that this process may use.
        progress (Callable, optional): Function that is called after each group
            with the number of finished resamples and the total number.
            Defaults to None.

    Returns:
        list[dict[str, ndarray]]: Figures of shape (B,), one dict for each
        function.
    """
    if num_workers is None:
        num_workers = default_num_workers()
    groups = [(first, min(first + _GROUP, num_resamples))
              for first in range(0, num_resamples, _GROUP)]
    num_workers = min(
        check_count('num_workers', num_workers), len(groups), _MOST_WORKERS)
    task = functions, num_images, seed
    if num_workers > 1 and not multiprocessing.current_process().daemon:
        try:
            return _gather(
                _by_processes(task, groups, num_workers), groups, progress)
        except (OSError, ImportError, NotImplementedError,
                BrokenProcessPool) as error:
            # Restricted containers have no semaphores; a script that starts
            # other processes by spawning needs `if __name__ == '__main__'`.
            warnings.warn(
                'resamples are computed in one process, as other processes '
                f'cannot be used: {error or type(error).__name__}',
                TcalDetWarning,
                stacklevel=2)
    return _gather((_figures_of(task, group) for group in groups), groups,
                   progress)


def default_num_workers() -> int:
    """OMP_NUM_THREADS if it is set, else the number of usable processors."""
    limit = os.environ.get('OMP_NUM_THREADS', '')
    if limit.isdigit() and int(limit) > 0:
        return int(limit)
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ProgressLine:
    """Progress callback that writes a line every few seconds.

    Args:
        write (Callable): Function that is called with each line.
        seconds (float): Time between lines, in seconds. Defaults to 5.
    """

    def __init__(self,
                 write: Callable[[str], None],
                 seconds: float = 5.0) -> None:
        self._write, self._seconds = write, seconds
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Write a line if enough time has passed."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            self._write(f'{done} of {total} resamples')


def _gather(results: Iterator[List[Figures]], groups: List[Tuple[int, int]],
            progress: Optional[Progress]) -> List[Figures]:
    """Join the figures of the groups, in order."""
    parts = []
    for figures, (_, last) in zip(results, groups):
        parts.append(figures)
        if progress is not None:
            progress(last, groups[-1][1])
    return [{
        key: np.concatenate([part[key] for part in of_function])
        for key in of_function[0]
    } for of_function in zip(*parts)]


def _figures_of(task: Tuple, group: Tuple[int, int]) -> List[Figures]:
    functions, num_images, seed = task
    multiplicities = draw_multiplicities(num_images, seed, *group)
    return [function(multiplicities) for function in functions]


def _by_processes(task: Tuple, groups: List[Tuple[int, int]],
                  num_workers: int) -> Iterator[List[Figures]]:
    executor = ProcessPoolExecutor(num_workers, initializer=_keep_task,
                                   initargs=(task, ))  # yapf: disable
    with executor:
        futures = [executor.submit(_work, group) for group in groups]
        try:
            for future in futures:
                yield future.result()
        finally:
            # After an error or Ctrl-C the other results are not needed.
            for future in futures:
                future.cancel()


# Task of a worker process, sent to it once.
_task: Any = None


def _keep_task(task: Tuple) -> None:
    global _task
    _task = task


def _work(group: Tuple[int, int]) -> List[Figures]:
    return _figures_of(_task, group)
