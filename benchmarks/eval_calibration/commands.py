"""Time complete commands from start to end."""
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from typing import Dict, List

from benchmarks import REPOSITORY
from .generated_set import SetSize, make_annotations, make_arrays, make_results
from .memory import in_gb

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
# Required module and script by title. The arguments of the scripts are the
# files of ground truth and results, and the file to write.
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
    """Time the commands from start to end; the fastest run of each counts.

    The commands run in turn, so that a machine that becomes slower affects
    all of them.

    Args:
        size_of_set (SetSize): Size of the set to evaluate.
        repeats (int): Number of runs of each command.

    Returns:
        dict[str, dict[str, float]]: ``wall`` and ``cpu`` seconds and peak
        ``memory`` in GB, by title of the command.
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
        # In another process: the commands would inherit its peak memory.
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
    start = time.perf_counter()
    # In the repository's root tcal_det is found even if it is not installed.
    process = subprocess.Popen(
        [sys.executable, '-c', f'import sys\n{script}', *paths],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f'this command failed:\n{script}')
    return dict(
        wall=time.perf_counter() - start,
        cpu=usage.ru_utime + usage.ru_stime,
        memory=in_gb(usage.ru_maxrss))


def is_importable(module: str) -> bool:
    """Check in another process whether a module can be imported."""
    return subprocess.run([sys.executable, '-c', f'import {module}'],
                          stderr=subprocess.DEVNULL).returncode == 0
