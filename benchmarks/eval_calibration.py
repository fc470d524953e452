"""Time the calibration figures beside COCOeval on a COCO-val-sized set.

    python benchmarks/eval_calibration.py --out times.json
    python benchmarks/eval_calibration.py --commands --repeats 5
    python benchmarks/eval_calibration.py --growth 500 5000 50000
    python benchmarks/eval_calibration.py --only-tcal-det \
        --classes 1203 --results-per-image 300 --growth 1000 10000

The set is made from a seed: long-tailed classes, objects of all sizes,
results that are right, shifted, doubled or plainly wrong. Every contestant
runs in a process of its own, so that its peak memory is its own, one after
the other. Without `--commands` reading JSON is not timed: records start as
lists of dicts, which is what a JSON file is once read. With it, commands are
timed from their start to their end, files read and written included.
"""
import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

# Runs from a checkout, installed or not.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_IMAGE_SIZE = (640, 480)
_OBJECTS_PER_IMAGE = 7.2
_CROWD_SHARE = 0.01


class SetSize(NamedTuple):
    """How large a set to make."""
    images: int
    seed: int
    classes: int
    results_per_image: int


def make_arrays(size_of_set: SetSize) -> Dict[str, np.ndarray]:
    """Objects and results as columns, deterministic in the argument."""
    num_images, seed, num_classes, results_per_image = size_of_set
    rng = np.random.default_rng(seed)
    # Long tail: the first class has a quarter of everything, like 'person'.
    share = 1 / np.arange(1, num_classes + 1)**1.1
    share /= share.sum()
    num_objects = rng.poisson(_OBJECTS_PER_IMAGE, num_images)
    image = np.repeat(np.arange(num_images), num_objects)
    # An image shows few classes: two or three, repeated.
    menu = rng.choice(num_classes, size=(num_images, 3), p=share)
    label = menu[image, rng.integers(0, 3, len(image))]
    boxes = _random_boxes(rng, len(image))

    num_results = num_images * results_per_image
    # 45 % of the results lie near an object, the others anywhere.
    is_near = rng.random(num_results) < 0.45
    if len(image) == 0:
        is_near[:] = False
    source = rng.integers(0, max(len(image), 1), num_results)
    result_boxes = _random_boxes(rng, num_results)
    result_image = rng.integers(0, num_images, num_results)
    result_label = rng.choice(num_classes, size=num_results, p=share)
    near = source[is_near]
    size = np.tile(boxes[near, 2:], 2)
    shift = rng.normal(0, 1, (len(near), 4)) * rng.choice([0.03, 0.1, 0.3],
                                                          size=(len(near), 1))
    result_boxes[is_near] = boxes[near] + shift * size
    result_boxes[:, 2:] = np.maximum(result_boxes[:, 2:], 1.0)
    result_image[is_near] = image[near]
    keeps_label = rng.random(len(near)) < 0.6
    result_label[is_near] = np.where(keeps_label, label[near],
                                     result_label[is_near])
    right = np.zeros(num_results, dtype=bool)
    right[is_near] = keeps_label & (np.abs(shift).max(axis=1) < 0.2)
    score = np.where(right, rng.beta(2, 2, num_results),
                     rng.beta(1, 12, num_results))
    by_image = np.argsort(result_image, kind='stable')
    return dict(
        image=image,
        label=label,
        boxes=boxes,
        iscrowd=rng.random(len(image)) < _CROWD_SHARE,
        result_image=result_image[by_image],
        result_label=result_label[by_image],
        result_boxes=np.round(result_boxes[by_image], 2),
        score=np.round(score[by_image], 4))


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    image_size = np.array(_IMAGE_SIZE, dtype=np.float64)
    size = np.minimum(np.exp(rng.normal(4.2, 0.9, (count, 2))), image_size)
    corner = rng.random((count, 2)) * (image_size - size)
    return np.round(np.concatenate((corner, size), axis=1), 2)


def make_annotations(arrays: Dict[str, np.ndarray],
                     size_of_set: SetSize) -> Dict[str, List[Dict[str, Any]]]:
    """The content of an annotation file."""
    width, height = _IMAGE_SIZE
    columns = zip(arrays['image'].tolist(), arrays['label'].tolist(),
                  arrays['boxes'].tolist(), arrays['iscrowd'].tolist())
    return dict(
        images=[
            dict(id=i + 1, width=width, height=height)
            for i in range(size_of_set.images)
        ],
        categories=[
            dict(id=k + 1, name=f'class {k + 1}')
            for k in range(size_of_set.classes)
        ],
        annotations=[
            dict(
                id=number + 1,
                image_id=image + 1,
                category_id=label + 1,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=int(iscrowd))
            for number, (image, label, box, iscrowd) in enumerate(columns)
        ])


def make_results(arrays: Dict[str, np.ndarray]) -> List[Dict[str, Any]]:
    """The content of a results file."""
    columns = zip(arrays['result_image'].tolist(),
                  arrays['result_label'].tolist(),
                  arrays['result_boxes'].tolist(), arrays['score'].tolist())
    return [
        dict(image_id=image + 1, category_id=label + 1, bbox=box, score=score)
        for image, label, box, score in columns
    ]


def run_suite(size_of_set: SetSize) -> Dict[str, float]:
    """All figures of tcal_det, overall and per class, from records."""
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
    """As `run_suite`, from arrays: dicts of millions would not fit."""
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
    before = _peak_memory()
    (ground_truth, detections), loading = _timed(load)

    _, evaluating = _timed(
        lambda: evaluate_detections(ground_truth, detections).to_dict())
    return dict(
        load=loading,
        evaluate=evaluating,
        total=loading + evaluating,
        memory_before=before,
        memory=_peak_memory(),
        objects=int(ground_truth.num_objects.sum()),
        results=len(detections))


def run_pycocotools(size_of_set: SetSize) -> Dict[str, float]:
    """COCOeval: 10 IoU thresholds, 4 area ranges, then accumulate."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    return _run_cocoeval(COCO, COCOeval, size_of_set)


def run_faster_coco_eval(size_of_set: SetSize) -> Dict[str, float]:
    """The same with faster-coco-eval, where it is installed."""
    from faster_coco_eval import COCO, COCOeval_faster
    return _run_cocoeval(COCO, COCOeval_faster, size_of_set)


def _run_cocoeval(coco_class: Callable, eval_class: Callable,
                  size_of_set: SetSize) -> Dict[str, float]:
    arrays = make_arrays(size_of_set)
    annotations = make_annotations(arrays, size_of_set)
    results = make_results(arrays)
    del arrays
    before = _peak_memory()
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
        memory=_peak_memory())


def _timed(work: Callable[[], Any]) -> Tuple[Any, float]:
    # Of this process, so that others that share the cores count less.
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in GB."""
    return _in_gb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _in_gb(max_rss: int) -> float:
    return max_rss * (1 if sys.platform == 'darwin' else 1024) / 1e9


CONTESTANTS = {
    'tcal_det': (run_suite, 'tcal_det, AP and all calibration figures'),
    'pycocotools': (run_pycocotools, 'pycocotools COCOeval'),
    'faster-coco-eval': (run_faster_coco_eval, 'faster-coco-eval COCOeval'),
    'tcal_det-arrays': (run_arrays, 'tcal_det, from arrays'),
}


def run_apart(name: str, size_of_set: SetSize,
              repeats: int) -> Dict[str, float]:
    """Run a contestant in fresh processes; the fastest one counts."""
    runs = []
    for _ in range(repeats):
        answer = subprocess.run([
            sys.executable,
            os.path.abspath(__file__), '--contestant', name, '--images',
            str(size_of_set.images), '--seed',
            str(size_of_set.seed), '--classes',
            str(size_of_set.classes), '--results-per-image',
            str(size_of_set.results_per_image)
        ],
                                stdout=subprocess.PIPE,
                                check=True)
        runs.append(json.loads(answer.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run['total'])


_TCAL_EVAL = """
import tcal_det.cli.eval_calibration as command
sys.argv = ['tcal-eval', *sys.argv[1:3], '--out', sys.argv[3]]
command.main()
"""
_COCO_EVAL = """
truth = COCO(sys.argv[1])
evaluator = COCOeval(truth, truth.{load_results}(sys.argv[2]), 'bbox')
evaluator.evaluate()
evaluator.accumulate()
evaluator.summarize()
"""
# Module that is needed and script, by title. Arguments of the scripts:
# ground truth, results, file to write.
COMMANDS = {
    'tcal-eval, with msgspec': ('msgspec', _TCAL_EVAL),
    'tcal-eval, without':
    ('json', "sys.modules['msgspec'] = None" + _TCAL_EVAL),
    'hotcoco': ('hotcoco', 'from hotcoco import COCO, COCOeval' +
                _COCO_EVAL.format(load_results='load_res')),
    'faster-coco-eval':
    ('faster_coco_eval',
     'from faster_coco_eval import COCO, COCOeval_faster as COCOeval' +
     _COCO_EVAL.format(load_results='loadRes')),
    'pycocotools': ('pycocotools', 'from pycocotools.coco import COCO\n'
                    'from pycocotools.cocoeval import COCOeval' +
                    _COCO_EVAL.format(load_results='loadRes')),
    'json.load of both files':
    ('json', 'import json\n'
     'kept = [json.load(open(path)) for path in sys.argv[1:3]]\n'),
}


def run_commands(size_of_set: SetSize,
                 repeats: int) -> Dict[str, Dict[str, float]]:
    """Time commands from start to end; of each the fastest run counts.

    They take turns, so that a machine that becomes slower does so for all.
    """
    rows = {}
    titles = [
        title for title, (module, _) in COMMANDS.items()
        if is_importable(module)
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            os.path.join(folder, name)
            for name in ('truth.json', 'results.json', 'out.json')
        ]
        # By another process: commands would inherit the peak memory.
        writer = multiprocessing.get_context('spawn').Process(
            target=_write_files, args=(size_of_set, paths))
        writer.start()
        writer.join()
        for _ in range(repeats):
            for title in titles:
                row = _run_command(COMMANDS[title][1], paths)
                if title not in rows or row['cpu'] < rows[title]['cpu']:
                    rows[title] = row
    return rows


def _write_files(size_of_set: SetSize, paths: List[str]) -> None:
    arrays = make_arrays(size_of_set)
    contents = make_annotations(arrays, size_of_set), make_results(arrays)
    for path, content in zip(paths, contents):
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(content, file)


def _run_command(script: str, paths: List[str]) -> Dict[str, float]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    start = time.perf_counter()
    process = subprocess.Popen([
        sys.executable, '-c',
        f'import sys\nsys.path.insert(0, {root!r})\n{script}', *paths
    ],
                               stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f'this command failed:\n{script}')
    return dict(
        wall=time.perf_counter() - start,
        cpu=usage.ru_utime + usage.ru_stime,
        memory=_in_gb(usage.ru_maxrss))


def is_importable(module: str) -> bool:
    """Whether a module can be imported, in a process of its own."""
    return subprocess.run([sys.executable, '-c', f'import {module}'],
                          stderr=subprocess.DEVNULL).returncode == 0


def comparison_table(rows: Dict[str, Dict[str, float]]) -> str:
    """Markdown: one line for each contestant."""
    lines = [
        '| | records to arrays or index, CPU s | evaluate, CPU s | '
        'total, CPU s | '
        'peak memory, GB | before it, making the records, GB |',
        '|---|---|---|---|---|---|'
    ]
    lines += [
        f'| {CONTESTANTS[name][1]} | {row["load"]:.2f} | '
        f'{row["evaluate"]:.2f} | {row["total"]:.2f} | '
        f'{row["memory"]:.2f} | {row["memory_before"]:.2f} |'
        for name, row in rows.items()
    ]
    return '\n'.join(lines)


def command_table(rows: Dict[str, Dict[str, float]]) -> str:
    """Markdown: one line for each command."""
    lines = [
        '| | wall, s | CPU, s | CPU / hotcoco | peak memory, GB |',
        '|---|---|---|---|---|'
    ]
    unit = rows.get('hotcoco', dict(cpu=float('nan')))['cpu']
    lines += [
        f'| {title} | {row["wall"]:.2f} | {row["cpu"]:.2f} | '
        f'{row["cpu"] / unit:.1f} | {row["memory"]:.2f} |'
        for title, row in rows.items()
    ]
    return '\n'.join(lines)


def growth_table(rows: Dict[int, Dict[str, float]]) -> str:
    """Markdown: one line for each number of images."""
    lines = [
        '| images | objects | results | total, CPU s | us per result | '
        'peak memory, GB |', '|---|---|---|---|---|---|'
    ]
    lines += [
        f'| {num_images} | {row["objects"]} | {row["results"]} | '
        f'{row["total"]:.2f} | {1e6 * row["total"] / row["results"]:.2f} | '
        f'{row["memory"]:.2f} |' for num_images, row in rows.items()
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument(
        '--images',
        type=int,
        default=5000,
        help='number of images (default: %(default)s)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the made-up set (default: %(default)s)')
    parser.add_argument(
        '--classes',
        type=int,
        default=80,
        help='number of classes (default: %(default)s)')
    parser.add_argument(
        '--results-per-image',
        type=int,
        default=100,
        metavar='NUM',
        help='results per image (default: %(default)s)')
    parser.add_argument(
        '--commands',
        action='store_true',
        help='time whole commands on files, reading included, instead')
    parser.add_argument(
        '--repeats',
        type=int,
        default=1,
        help='runs of each; the fastest counts (default: '
        '%(default)s)')
    parser.add_argument(
        '--growth',
        type=int,
        nargs='*',
        metavar='IMAGES',
        help='also time sets of these sizes (without '
        'numbers: 500 5000 50000)')
    parser.add_argument(
        '--only-tcal-det',
        action='store_true',
        help='leave out the COCOeval implementations')
    parser.add_argument(
        '--out', metavar='FILE.json', help='write the figures there')
    parser.add_argument(
        '--contestant', choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ('images', 'repeats', 'classes', 'results_per_image'):
        if getattr(args, name) < 1:
            parser.error(f'`--{name.replace("_", "-")}` must be >= 1, but got '
                         f'{getattr(args, name)}')
    return args


def main() -> None:
    """Run everything, print Markdown, write JSON."""
    args = parse_args()
    size_of_set = SetSize(args.images, args.seed, args.classes,
                          args.results_per_image)
    if args.contestant:
        warnings.simplefilter('ignore', UserWarning)
        run = CONTESTANTS[args.contestant][0]
        print(json.dumps(run(size_of_set)))
        return
    print(f'Python {platform.python_version()}, numpy {np.__version__}, '
          f'{os.cpu_count()} cores; {args.classes} classes\n')
    names = ['tcal_det']
    if not args.only_tcal_det:
        names.append('pycocotools')
        if is_importable('faster_coco_eval'):
            names.append('faster-coco-eval')
    rows, commands = {}, {}
    if args.commands:
        commands = run_commands(size_of_set, args.repeats)
        print(command_table(commands))
    elif not (args.only_tcal_det and args.growth):
        rows = {
            name: run_apart(name, size_of_set, args.repeats)
            for name in names
        }
        print(f'{args.images} images, {rows["tcal_det"]["objects"]} objects, '
              f'{rows["tcal_det"]["results"]} results\n')
        print(comparison_table(rows))
    growth = {}
    if args.growth is not None:
        growth = {
            num_images:
            run_apart('tcal_det-arrays',
                      size_of_set._replace(images=num_images), args.repeats)
            for num_images in args.growth or (500, 5000, 50000)
        }
        print('\n' + growth_table(growth))
    if args.out:
        # Not imported by contestants, whose memory is measured.
        from tcal_det.fileio import write_json_atomically
        write_json_atomically(
            args.out,
            dict(
                images=args.images,
                seed=args.seed,
                repeats=args.repeats,
                python=platform.python_version(),
                numpy=np.__version__,
                comparison=rows,
                commands=commands,
                growth=growth))


if __name__ == '__main__':
    main()
