"""What the study runs: method x temperature x loss weight x teacher x seed.

Stages build on each other's results, in this order: 'teachers', 'setting'
(pilots), 'grid' (each method's loss weight, chosen on val), 'seeds' (the
comparison, on test), 'confirmation' (its main question, with a teacher and
seeds from which nothing was chosen), 'copies' (many teachers), 'gradient'
(what is missing to compare methods at equal gradient scale) and 'bccd' (some
methods on BCCD, with the weights of the digit scenes).
"""
import math
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence

from tcal_det.errors import InvalidValueError
from .rows import Row, as_temperature, row_of
from .run_folder import PlannedRun
from .selection import best_weight, grid_scores

CONFIGS = 'benchmarks/study/configs/'
FOLDER = 'work_dirs/study'
DATA = dict(out='data/digits_study', train=2000, val=300, test=600, size=128)
STAGES = ('teachers', 'setting', 'grid', 'seeds', 'confirmation', 'copies',
          'gradient', 'bccd')

STUDENT = CONFIGS + 'student_r18-quarter_12e-b2-lr2.py'
# The pilots, with the loss weights of TCal at T = 1.5. A grid on '12e' was
# abandoned: its student learned too little to tell methods apart.
PILOTS = {
    '16e': (4.0, ),
    '12e-b2': (16.0, ),
    '12e-b2-lr2': (16.0, ),
    '8e-b2-lr3': (16.0, ),
}
BCCD_STUDENT = CONFIGS + 'bccd_student_r18-quarter_24e-b2-lr2.py'
# Config and seed. The second makes are for the runs on fresh seeds: a teacher
# is a draw, too.
TEACHERS = {
    'r18-half': (CONFIGS + 'teacher_r18-half_12e.py', 0),
    'r18-quarter': (CONFIGS + 'teacher_r18-quarter_12e.py', 0),
    'bccd_r18-half': ('configs/bccd/faster-rcnn_r18-half_fpn_24e_bccd.py', 0),
    'r18-half-s1': (CONFIGS + 'teacher_r18-half_12e.py', 1),
    'r18-quarter-s1': (CONFIGS + 'teacher_r18-quarter_12e.py', 1),
}
# Those that all methods are compared with.
TEACHER = 'r18-half_e12'
FRESH_TEACHER = 'r18-half-s1_e12'
BCCD_TEACHER = 'bccd_r18-half_e24'
# In the comparisons; a table never mixes teachers.
TEACHER_OF = dict(seeds=TEACHER, confirmation=FRESH_TEACHER, bccd=BCCD_TEACHER)
BCCD_METHODS = ('kd', 'tcal-t1', 'tcal-t1.5', 'tcal-t3')
WEIGHTS = (4.0, 16.0)
GRID_STEP, GRID_LIMITS = 4.0, (1.0, 64.0)
# Weights are chosen with a seed of their own.
GRID_SEED = 0
SEEDS = (1, 2, 3, 4, 5)
# All at one weight, so that nothing but the temperature differs.
CONFIRMATION_SEEDS = tuple(range(6, 16))
CONFIRMATION_TEMPERATURES = (1.0, 1.5, 3.0)
# Of its other teachers and methods.
FRESH_SEEDS = CONFIRMATION_SEEDS[:5]
TCAL_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 5.0)
# The same teacher, made over-confident.
OVERCONFIDENT_TEMPERATURES = (0.33, 0.5)
TEMPERATURES = OVERCONFIDENT_TEMPERATURES + TCAL_TEMPERATURES
CHECKPOINTS = ('r18-half-s1_e2', 'r18-half-s1_e4', 'r18-half-s1_e8',
               'r18-quarter-s1_e2', 'r18-quarter-s1_e12')
# The plain student, halfway, on which gradients are compared.
GRADIENT_STUDENT = 'grid/baseline/seed0/train/epoch_6.pth'


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        name (str): 'kd', 'tcal', 'wttm' or 'dkd'.
        loss (dict): Config of its loss, without ``loss_weight``.
        temperature (float, optional): Of the teacher's calibrator.
        fitted (bool): Whether that was fitted to held-out scenes.
    """
    name: str
    loss: dict
    temperature: Optional[float] = None
    fitted: bool = False

    @property
    def row(self) -> Row:
        """By which tables tell methods apart."""
        return Row(self.name, as_temperature(self.temperature), self.fitted)

    @property
    def label(self) -> str:
        """In names of folders."""
        if self.fitted:
            return f'{self.name}-fitted'
        if self.temperature is None:
            return self.name
        return f'{self.name}-t{self.temperature:g}'


def methods(fitted_temperature: float) -> List[Method]:
    """All distillation methods of the comparison.

    Args:
        fitted_temperature (float): Of ``TEACHER``, on val.
    """
    kl_div = dict(type='LogitKLDivLoss')
    return [
        Method('kd', dict(kl_div, temperature=4.0)),
        *(Method('tcal', kl_div, temperature)
          for temperature in TCAL_TEMPERATURES),
        Method('tcal', kl_div, fitted_temperature, fitted=True),
        # WTTM softens by itself: its weight needs the raw logits.
        Method('wttm', dict(type='WTTMLoss', temperature=1.5)),
        Method('dkd', dict(type='DKDLoss')),
        Method('dkd', dict(type='DKDLoss'), 1.5),
    ]


def teacher_source(teacher: str) -> Dict[str, str]:
    """Config and checkpoint of a teacher called '<name>_e<epoch>'."""
    name, _, epoch = teacher.rpartition('_e')
    return dict(
        config=TEACHERS[name][0],
        checkpoint=f'{FOLDER}/teachers/{name}/train/epoch_{epoch}.pth')


def baseline(stage: str,
             seed: int,
             config: str = STUDENT,
             **settings) -> PlannedRun:
    """The student alone."""
    return PlannedRun(f'{stage}/baseline/seed{seed}', stage, 'baseline',
                      config, seed, **settings)


def distilled(stage: str,
              method: Method,
              weight: float,
              seed: int,
              teacher: str = TEACHER,
              config: str = STUDENT,
              is_tested: bool = True) -> PlannedRun:
    """The student with a teacher."""
    source = teacher_source(teacher)
    if method.temperature is not None:
        source['calibrator'] = dict(
            type='TemperatureScaling', temperature=method.temperature)
    label = method.label
    if teacher not in (TEACHER, BCCD_TEACHER):
        label += f'_{teacher}'
    return PlannedRun(
        name=f'{stage}/{label}_w{weight:g}/seed{seed}',
        stage=stage,
        method=method.name,
        config=config,
        seed=seed,
        overrides=dict(
            model=dict(
                type='tcal_det.CalibratedTeacherDistiller',
                student_type='FasterRCNN',
                teacher=source,
                distill_losses=dict(
                    loss_kd_cls=dict(method.loss, loss_weight=weight)))),
        temperature=method.temperature,
        fitted=method.fitted,
        loss_weight=weight,
        teacher=teacher,
        is_tested=is_tested)


def runs_of(stage: str, results: dict) -> List[PlannedRun]:
    """What a stage consists of.

    Args:
        stage (str): One of ``STAGES``.
        results (dict): Of the stages before it.

    Returns:
        list[PlannedRun]: In the order in which they are to begin.

    Raises:
        InvalidValueError: If an earlier stage is missing.
    """
    if stage == 'teachers':
        return [
            PlannedRun(f'teachers/{name}', stage, 'teacher', config, seed)
            for name, (config, seed) in TEACHERS.items()
        ]
    if stage == 'setting':
        return _setting()
    compared = methods(_fitted_temperature(results))
    if stage == 'grid':
        return _grid(compared, results['runs'])
    weights = {
        method.row: _chosen_weight(results['runs'], method)
        for method in compared
    }
    if stage == 'seeds':
        return [
            run for seed in SEEDS
            for run in (baseline(stage, seed),
                        *(distilled(stage, method, weights[method.row], seed)
                          for method in compared))
        ]
    reference = next(method for method in compared
                     if method.label == 'tcal-t1.5')
    weight = weights[reference.row]
    if stage == 'confirmation':
        return _confirmation(compared, weight)
    if stage == 'bccd':
        return _bccd(compared, weights, weight)
    fresh = methods(_fitted_temperature(results, FRESH_TEACHER))
    if stage == 'copies':
        return _copies(fresh, weight)
    equal = equal_gradient_weights(results, compared, reference, weight)
    # TCal is among the copies, at this very weight.
    return [
        distilled(stage, method, equal[method.row], seed, FRESH_TEACHER)
        for seed in FRESH_SEEDS for method in compared if method.name != 'tcal'
    ]


def _setting() -> List[PlannedRun]:
    """Pilots: is there something to learn from the teacher, and room for it?

    On val, by which the setting was decided.
    """
    calibrated = Method('tcal', dict(type='LogitKLDivLoss'), 1.5)
    runs = []
    for name, weights in PILOTS.items():
        config = f'{CONFIGS}student_r18-quarter_{name}.py'
        pilots = [
            baseline('setting', GRID_SEED, config, is_tested=False),
            *(distilled(
                'setting',
                calibrated,
                weight,
                GRID_SEED,
                TEACHER,
                config,
                is_tested=False) for weight in weights)
        ]
        runs += [
            replace(run, name=run.name.replace('/', f'/{name}_', 1))
            for run in pilots
        ]
    return runs


def _grid(compared: Sequence[Method],
          runs: Sequence[dict]) -> List[PlannedRun]:
    halfway = dict(
        default_hooks=dict(checkpoint=dict(interval=6, max_keep_ckpts=2)))
    return [
        baseline('grid', GRID_SEED, overrides=halfway, is_tested=False),
        *(distilled('grid', method, weight, GRID_SEED, is_tested=False)
          for method in compared
          for weight in grid_weights(grid_scores(runs, method.row))),
    ]


def _confirmation(compared: Sequence[Method],
                  weight: float) -> List[PlannedRun]:
    stage = 'confirmation'
    chosen = [
        method for method in compared if method.name == 'tcal'
        and method.temperature in CONFIRMATION_TEMPERATURES
    ]
    return [
        run for seed in CONFIRMATION_SEEDS
        for run in (baseline(stage, seed),
                    *(distilled(stage, method, weight, seed, FRESH_TEACHER)
                      for method in chosen))
    ]


def _bccd(compared: Sequence[Method], weights: Dict[Row, float],
          paper_weight: float) -> List[PlannedRun]:
    """Methods at their own weights, and T = 1 at that of T = 1.5, too."""
    stage = 'bccd'
    pairs = [(method, weights[method.row]) for method in compared
             if method.label in BCCD_METHODS]
    pairs += [
        (method, paper_weight) for method in compared
        if method.label == 'tcal-t1' and weights[method.row] != paper_weight
    ]
    return [
        run for seed in SEEDS
        for run in (baseline(stage, seed, BCCD_STUDENT), *(
            distilled(stage, method, weight, seed, BCCD_TEACHER, BCCD_STUDENT)
            for method, weight in pairs))
    ]


def grid_weights(scores: Dict[float, float]) -> List[float]:
    """The weights to try: past the edge where the best is, within limits.

    Args:
        scores (dict[float, float]): mAP on val by weight tried so far.
    """
    weights = sorted({*WEIGHTS, *scores})
    if set(weights) == set(scores):
        best = best_weight(scores)
        if best == weights[0]:
            weights.insert(0, best / GRID_STEP)
        elif best == weights[-1]:
            weights.append(best * GRID_STEP)
    lowest, highest = GRID_LIMITS
    return [weight for weight in weights if lowest <= weight <= highest]


def one_run_of_each_method(results: dict) -> List[PlannedRun]:
    """Runs of the grid, one of each distillation method."""
    return [
        distilled('grid', method, WEIGHTS[0], GRID_SEED, is_tested=False)
        for method in methods(_fitted_temperature(results))
    ]


def _copies(fresh: Sequence[Method], weight: float) -> List[PlannedRun]:
    """Other teachers, and copies of one, for the same student and loss.

    Copies that 'confirmation' has are not run again.

    Args:
        fresh (Sequence[Method]): With the temperature fitted to
            ``FRESH_TEACHER``.
        weight (float): Of all of them.
    """
    kl_div = dict(type='LogitKLDivLoss')
    copies = [
        Method('tcal', kl_div, temperature) for temperature in TEMPERATURES
        if temperature not in CONFIRMATION_TEMPERATURES
    ]
    copies += [method for method in fresh if method.fitted]
    pairs = [(FRESH_TEACHER, copy) for copy in copies]
    pairs += [(checkpoint, Method('tcal', kl_div, 1.0))
              for checkpoint in CHECKPOINTS]
    return [
        distilled('copies', copy, weight, seed, teacher)
        for seed in FRESH_SEEDS for teacher, copy in pairs
    ]


def equal_gradient_weights(results: dict, compared: Sequence[Method],
                           reference: Method,
                           weight: float) -> Dict[Row, float]:
    """The grid's weights at which methods pull equally hard on the student.

    Weights are those of the grid, in steps of 4: pulls differ by no more than
    a factor of 2, and runs at these weights are there already.

    Args:
        results (dict): With ``gradient_scales``, of each method at weight 1.
        compared (Sequence[Method]): The methods.
        reference (Method): Whose pull the others are given.
        weight (float): Of the reference.

    Returns:
        dict[Row, float]: By method.

    Raises:
        InvalidValueError: If the gradients have not been measured.
    """
    scales = {
        row_of(scale): scale['rms_gradient']
        for scale in results.get('gradient_scales', [])
    }
    if not scales:
        raise InvalidValueError(
            'stage `gradient` needs the methods\' gradients: run the stage '
            '`grid` to its end first')
    steps = {
        method.row:
        round(math.log(scales[reference.row] / scales[method.row], GRID_STEP))
        for method in compared
    }
    return {row: weight * GRID_STEP**step for row, step in steps.items()}


def _fitted_temperature(results: dict, name: str = TEACHER) -> float:
    for teacher in results.get('teachers', []):
        if teacher['name'] == name:
            return teacher['fitted_temperature']
    raise InvalidValueError(
        f'the study needs the temperature of teacher {name!r}: run the '
        'stage `teachers` to its end first')


def _chosen_weight(runs: Sequence[dict], method: Method) -> float:
    weight = best_weight(grid_scores(runs, method.row))
    if weight is None:
        raise InvalidValueError(
            f'the loss weight of {method.label!r} has not been chosen: run '
            'the stage `grid` to its end first')
    return weight
