"""Measure seconds and peak memory of variants side by side."""
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
    """Time variants in turn on the same batches.

    Args:
        case (Case): Case to measure.
        variants (Sequence[str]): Keys of ``VARIANTS``.
        repetitions (int): Number of steps of each variant.
        progress (Callable): Function that shows a progress text.

    Returns:
        dict[str, Any]: Median seconds by name of the variant, or None for a
        variant that cannot run. Further entries by variant: ``unavailable``
        (the reason), ``seconds`` (of all steps), ``quartiles``,
        ``images_per_second``, ``memory`` (peak of the process in bytes) and
        ``step_memory`` (peak of a step's tensors in bytes). Single entries:
        ``logit_memory`` (bytes of the student's logits, or None) and the
        settings of the measurement.
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
    """Measure all variants and compare ours with the lower limit.

    Args:
        case (Case): Case to measure.
        repetitions (int): Number of steps of each variant.
        progress (Callable): Function that shows a progress text.

    Returns:
        dict[str, Any]: Result of :func:`measure`, and ``limit``, ``ratio``
        (ours / limit), ``ratio_quartiles`` (of this ratio over the
        repetitions), ``over_plain`` (ours / plain), ``added_memory`` (bytes
        that a step of ours needs more than a step of plain, without the
        teacher's weights) and ``added_logits`` (``added_memory`` divided by
        the size of the student's logits).
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
    """Add the lower limit of a step, and the ratio of ours to it."""
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
    """Measure each method against the lower limit of its step.

    Args:
        cases (dict[str, Case]): Cases by name of the method.
        repetitions (int): Number of steps of each variant.
        progress (Callable): Function that shows a progress text.

    Yields:
        tuple[str, dict]: Name of the method, and the result of
        :func:`measure` with the entries ``limit``, ``ratio``, ``over_plain``
        and ``added_memory`` of :func:`compare`.
    """
    for name, case in cases.items():

        def report_progress(text: str, name: str = name) -> None:
            progress(f'{name}: {text}')

        figures = measure(case, ('plain', 'teacher_as_ours', 'ours'),
                          repetitions, report_progress)
        yield name, _against_limit(figures)


def measure_growth(base: Case, factors: Dict[str, Sequence], repetitions: int,
                   progress: Progress) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Measure student and distiller, with one factor varied at a time.

    Args:
        base (Case): Case with the values of the other factors.
        factors (dict[str, Sequence]): Values by attribute of ``Case``.
        repetitions (int): Number of steps of each variant.
        progress (Callable): Function that shows a progress text.

    Yields:
        tuple[str, dict]: Name of the factor, and for one of its values the
        result of :func:`measure` with ``value`` and ``over_plain``.
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
