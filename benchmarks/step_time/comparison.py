"""Seconds and peak memory of variants side by side."""
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from .mmrazor import UnavailableError
from .variants import VARIANTS
from .workers import Worker
from .workload import Case

Progress = Callable[[str], None]


def measure(case: Case, variants: Sequence[str], repetitions: int,
            progress: Progress) -> Dict[str, Any]:
    """Time variants on the same batches, a step of each in turn.

    Args:
        case (Case): The point of measurement.
        variants (Sequence[str]): Keys of ``VARIANTS``.
        repetitions (int): Steps of each.
        progress (Callable): Is told what is being done.

    Returns:
        dict: By variant the median of its seconds, or None, and then the
        reason under ``unavailable``; by variant all ``seconds``, their
        ``quartiles``, ``images_per_second``, and in bytes the peak
        ``memory`` of the process and ``step_memory``, that of a step's
        tensors; ``logit_memory``, bytes of the student's logits, or None.
    """
    workers: Dict[str, Worker] = {}
    unavailable = {}
    try:
        for variant in variants:
            progress(f'building {variant}')
            try:
                workers[variant] = Worker(variant, case)
            except UnavailableError as error:
                unavailable[variant] = str(error)
        seconds: Dict[str, List[float]] = {name: [] for name in workers}
        for seed in range(repetitions):
            for name, worker in workers.items():
                progress(f'repetition {seed + 1} of {repetitions}, {name}')
                seconds[name].append(worker.step(seed))
        memory = {name: worker.memory() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    medians = {name: float(np.median(took)) for name, took in seconds.items()}
    return dict({name: medians.get(name)
                 for name in variants},
                quartiles={
                    name: np.percentile(took, (25, 75)).tolist()
                    for name, took in seconds.items()
                },
                images_per_second={
                    name: case.batch_size / took
                    for name, took in medians.items()
                },
                seconds=seconds,
                memory={
                    name: bytes_['peak']
                    for name, bytes_ in memory.items()
                },
                step_memory={
                    name: bytes_['step']
                    for name, bytes_ in memory.items()
                },
                logit_memory=memory.get('teacher', {}).get('logits'),
                unavailable=unavailable,
                repetitions=repetitions,
                batch_size=case.batch_size,
                rois_per_image=case.rois_per_image)


def compare(case: Case, repetitions: int,
            progress: Progress) -> Dict[str, Any]:
    """All variants, the least a step can cost, and how near we are.

    Returns:
        dict: As :func:`measure`, with ``limit``, ``ratio`` (ours / limit),
        ``ratio_quartiles`` of the same ratio within a repetition,
        ``over_plain`` (ours / plain), ``added_memory``: bytes that ours
        holds in a step more than plain, the teacher's weights apart, and
        ``added_logits``, the same in logit tensors of the student.
    """
    figures = _against_limit(
        measure(case, list(VARIANTS), repetitions, progress))
    seconds = {
        name: np.array(figures['seconds'][name])
        for name in ('plain', 'teacher_as_ours', 'ours')
    }
    ratios = seconds['ours'] / (seconds['plain'] + seconds['teacher_as_ours'])
    return dict(
        figures,
        ratio_quartiles=np.percentile(ratios, (25, 75)).tolist(),
        added_logits=figures['added_memory'] / figures['logit_memory'])


def _against_limit(figures: Dict[str, Any]) -> Dict[str, Any]:
    """Add how ours stands to the least that a step can cost."""
    limit = figures['plain'] + figures['teacher_as_ours']
    memory = figures['step_memory']
    return dict(
        figures,
        limit=limit,
        ratio=figures['ours'] / limit,
        over_plain=figures['ours'] / figures['plain'],
        added_memory=memory['ours'] - memory['plain'])


def compare_methods(cases: Dict[str, Case], repetitions: int,
                    progress: Progress) -> Iterator[Tuple[str, Dict]]:
    """What a method costs above the step and the teacher that it needs.

    Args:
        cases (dict[str, Case]): A config of each method.
        repetitions (int): Steps of each.
        progress (Callable): Is told what is being done.

    Yields:
        tuple[str, dict]: Name of the method, and what :func:`measure`
        returns, with ``limit``, ``ratio``, ``over_plain`` and
        ``added_memory`` as :func:`compare` has them.
    """
    for name, case in cases.items():

        def tell(text: str, name: str = name) -> None:
            progress(f'{name}: {text}')

        figures = measure(case, ('plain', 'teacher_as_ours', 'ours'),
                          repetitions, tell)
        yield name, _against_limit(figures)


def grow(base: Case, factors: Dict[str, Sequence], repetitions: int,
         progress: Progress) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Student and distiller with one factor varied at a time.

    Args:
        base (Case): What the other factors stay at.
        factors (dict[str, Sequence]): Values by attribute of ``Case``.
        repetitions (int): Steps of each.
        progress (Callable): Is told what is being done.

    Yields:
        tuple[str, dict]: The factor, and for one of its values what
        :func:`measure` returns, with ``value`` and ``over_plain``.
    """
    for factor, values in factors.items():
        for value in values:
            progress(f'{factor} {value}')
            figures = measure(
                replace(base, **{factor: value}), ('plain', 'ours'),
                repetitions, lambda _: None)
            yield factor, dict(
                figures,
                value=value,
                over_plain=figures['ours'] / figures['plain'])
