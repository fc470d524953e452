"""Compared implementations, each in its own process.

    python -m benchmarks.eval_calibration.implementations NAME SIZE

runs one of them. SIZE is a SetSize as a JSON list, and the figures are printed
as JSON.
"""
import contextlib
import io
import json
import subprocess
import sys
import time
import warnings
from typing import Any, Callable, Dict, Tuple

from benchmarks import REPOSITORY
from .generated_set import SetSize, make_annotations, make_arrays, make_results
from .memory import peak_memory


def run_suite(size_of_set: SetSize) -> Dict[str, float]:
    """Compute all figures of tcal_det, overall and per class, from records."""
    from tcal_det.evaluation.functional import (detections_from_coco,
                                                ground_truth_from_coco)
    arrays = make_arrays(size_of_set)
    annotations = make_annotations(arrays, size_of_set)
    results = make_results(arrays)
    del arrays

    def load() -> Tuple[Any, Any]:
        ground_truth = ground_truth_from_coco(annotations)
        return ground_truth, detections_from_coco(results, ground_truth)

    return _run_tcal_det(load)


def run_arrays(size_of_set: SetSize) -> Dict[str, float]:
    """Compute the figures of `run_suite` from arrays.

    The dicts of millions of records would not fit into memory.
    """
    from tcal_det.evaluation.functional import (detections_from_arrays,
                                                ground_truth_from_coco)
    arrays = make_arrays(size_of_set)
    ground_truth = ground_truth_from_coco(
        make_annotations(arrays, size_of_set))

    def load() -> Tuple[Any, Any]:
        return ground_truth, detections_from_arrays(arrays['result_image'] + 1,
                                                    arrays['result_label'] + 1,
                                                    arrays['result_boxes'],
                                                    arrays['score'],
                                                    ground_truth)

    return _run_tcal_det(load)


def _run_tcal_det(load: Callable[[], Tuple[Any, Any]]) -> Dict[str, float]:
    from tcal_det.evaluation.functional import evaluate_detections
    before = peak_memory()
    (ground_truth, detections), loading = _timed(load)

    _, evaluating = _timed(
        lambda: evaluate_detections(ground_truth, detections).to_dict())
    return dict(
        load=loading,
        evaluate=evaluating,
        total=loading + evaluating,
        memory_before=before,
        memory=peak_memory(),
        objects=int(ground_truth.num_objects.sum()),
        results=len(detections))


def run_pycocotools(size_of_set: SetSize) -> Dict[str, float]:
    """Run COCOeval: 10 IoU thresholds, 4 area ranges, then accumulate."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    return _run_cocoeval(COCO, COCOeval, size_of_set)


def run_faster_coco_eval(size_of_set: SetSize) -> Dict[str, float]:
    """Run the COCOeval of faster-coco-eval, which must be installed."""
    from faster_coco_eval import COCO, COCOeval_faster
    return _run_cocoeval(COCO, COCOeval_faster, size_of_set)


def _run_cocoeval(coco_class: Callable, eval_class: Callable,
                  size_of_set: SetSize) -> Dict[str, float]:
    arrays = make_arrays(size_of_set)
    annotations = make_annotations(arrays, size_of_set)
    results = make_results(arrays)
    del arrays
    before = peak_memory()
    with contextlib.redirect_stdout(io.StringIO()):

        def load() -> Tuple[Any, Any]:
            ground_truth = coco_class()
            ground_truth.dataset = annotations
            ground_truth.createIndex()
            return ground_truth, ground_truth.loadRes(results)

        (ground_truth, detections), loading = _timed(load)
        evaluator = eval_class(ground_truth, detections, iouType='bbox')
        _, evaluating = _timed(evaluator.evaluate)
        _, accumulating = _timed(evaluator.accumulate)
    return dict(
        load=loading,
        evaluate=evaluating + accumulating,
        total=loading + evaluating + accumulating,
        memory_before=before,
        memory=peak_memory())


def _timed(work: Callable[[], Any]) -> Tuple[Any, float]:
    # CPU time, so that other processes on the same cores count less.
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


IMPLEMENTATIONS = {
    'tcal_det': (run_suite, 'tcal_det, AP and all calibration figures'),
    'pycocotools': (run_pycocotools, 'pycocotools COCOeval'),
    'faster-coco-eval': (run_faster_coco_eval, 'faster-coco-eval COCOeval'),
    'tcal_det-arrays': (run_arrays, 'tcal_det, from arrays'),
}


def run_in_process(name: str, size_of_set: SetSize,
                   repeats: int) -> Dict[str, float]:
    """Run an implementation in new processes; the fastest run counts.

    Args:
        name (str): Key of ``IMPLEMENTATIONS``.
        size_of_set (SetSize): Size of the set to evaluate.
        repeats (int): Number of processes, one after the other.

    Returns:
        dict[str, float]: CPU seconds to ``load`` and ``evaluate`` and their
        ``total``; peak ``memory`` in GB, and ``memory_before`` the work.
    """
    runs = []
    for _ in range(repeats):
        completed = subprocess.run(
            [sys.executable, '-m', __name__, name,
             json.dumps(size_of_set)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            check=True)
        runs.append(json.loads(completed.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run['total'])


def main() -> None:
    """Run the named implementation and print its figures."""
    name, size_of_set = sys.argv[1:]
    warnings.simplefilter('ignore', UserWarning)
    run, _ = IMPLEMENTATIONS[name]
    print(json.dumps(run(SetSize(*json.loads(size_of_set)))))


if __name__ == '__main__':
    main()
