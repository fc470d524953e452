"""Make the study's runs; call it again to go on.

    python benchmarks/study/run.py                       # all stages
    python benchmarks/study/run.py --stage grid --jobs 2

Runs go to work_dirs/study, what they measured to
benchmarks/study/results.json; report.py makes tables and figures of it.
"""
import argparse
import json
import os
import os.path as osp
import signal
import sys

# Runs from a checkout, as a script.
sys.path.insert(0,
                osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from benchmarks.study import plan  # noqa: E402
from benchmarks.study.measurements import measure_gradients  # noqa: E402
from benchmarks.study.measurements import measure_teacher  # noqa: E402
from benchmarks.study.run_folder import REPOSITORY  # noqa: E402
from benchmarks.study.run_folder import collect_records  # noqa: E402
from benchmarks.study.run_folder import without_finished  # noqa: E402
from benchmarks.study.runner import StudyRunner  # noqa: E402
from tcal_det.commands import run_command  # noqa: E402
from tcal_det.datasets import write_digit_scenes  # noqa: E402
from tcal_det.fileio import write_json_atomically  # noqa: E402

RESULTS = 'benchmarks/study/results.json'


def parse_args():
    parser = argparse.ArgumentParser(
        description='Make the runs of the study that are not finished')
    parser.add_argument(
        '--stage',
        choices=plan.STAGES,
        nargs='+',
        default=plan.STAGES,
        help='in this order (default: all)')
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs at once, each with its share of the cores (default: 1)')
    parser.add_argument(
        '--only-missing',
        action='store_true',
        help='also skip runs that the results file has finished, though '
        'their folders are not here; not teachers, which other runs need')
    return parser.parse_args()


def read_results():
    if not osp.isfile(RESULTS):
        return dict(runs=[], teachers=[], gradient_scales=[])
    with open(RESULTS, encoding='utf-8') as file:
        return json.load(file)


def collect():
    """Bring the results file up to date with the folders of the runs."""
    results = read_results()
    results['runs'] = collect_records(plan.FOLDER, results['runs'])
    write_json_atomically(RESULTS, results)
    return results


def add(section, rows):
    """Append to the results file as it is by now: others write it, too."""
    results = read_results()
    results[section] += rows
    write_json_atomically(RESULTS, results)


def measure_teachers(results):
    """All teachers that a run may have, where that is not done yet."""
    measured = {row['name'] for row in results['teachers']}
    for name in (plan.TEACHER, plan.FRESH_TEACHER, *plan.CHECKPOINTS):
        if name not in measured:
            print(f'calibration of {name}')
            copies = plan.TEMPERATURES if name == plan.FRESH_TEACHER else ()
            add(
                'teachers',
                measure_teacher(
                    name, **plan.teacher_source(name), temperatures=copies))


def measure_losses(results):
    """Gradients of all methods on the baseline of the grid."""
    if not results['gradient_scales']:
        print('gradients of all methods')
        add(
            'gradient_scales',
            measure_gradients(
                plan.one_run_of_each_method(results),
                f'{plan.FOLDER}/{plan.GRADIENT_STUDENT}', plan.FOLDER))


def make_stage(stage, runner, only_missing):
    """Make the runs of a stage.

    Returns:
        list[dict]: Those that did not finish.
    """
    results = collect()
    runs, made, unfinished = plan.runs_of(stage, results), None, []
    # The grid grows by what it has found.
    while runs != made and not unfinished:
        todo = runs
        if only_missing and stage != 'teachers':
            todo = without_finished(runs, results['runs'])
        unfinished = runner.execute(todo, collect)
        results = collect()
        runs, made = plan.runs_of(stage, results), runs
    return unfinished


def main():
    args = parse_args()
    # All paths, here and in configs, are from there.
    os.chdir(REPOSITORY)
    # As Ctrl-C: the runs of this call are ended, and resumed by the next.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runner = StudyRunner(plan.FOLDER, args.jobs)
    if not osp.isdir(plan.DATA['out']):
        sizes = {split: plan.DATA[split] for split in ('train', 'val', 'test')}
        write_digit_scenes(plan.DATA['out'], sizes, size=plan.DATA['size'])
    for stage in args.stage:
        print(f'== {stage}')
        unfinished = make_stage(stage, runner, args.only_missing)
        if unfinished:
            for record in unfinished:
                print(
                    f'{record["status"]}: {record["name"]}: {record["error"]}',
                    file=sys.stderr)
            sys.exit(f'stage `{stage}` is not complete, and later ones build '
                     'on it: call again to go on')
        if stage == 'teachers':
            measure_teachers(read_results())
        elif stage == 'grid':
            measure_losses(read_results())


if __name__ == '__main__':
    try:
        run_command(main)
    except KeyboardInterrupt:
        sys.exit('stopped; call again to go on')
