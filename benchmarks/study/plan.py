"""What the study runs: docs/evidence/preregistration.md as code.

A run is one training and its measurement. Blocks are parts of the plan that
answer one question each; the classifiers (block E) have a runner of their own.
"""
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .data import FOLDS, NUM_FOLDS

CONFIGS = 'benchmarks/study/configs/'
FOLDER = 'work_dirs/study'
# Of all arms with a teacher on a softmax head, and of the hard labels.
SOFTMAX_WEIGHT = 16.0
FOCAL_WEIGHT = 1.0
FIRST_SEED = 201
TEACHER_EPOCHS, STUDENT_EPOCHS = 12, 48
# Scenes of train by the teacher; students are trained on the first 200.
DIGIT_TEACHERS = dict(
    U1=(11, -1800),
    U2=(12, -1800),
    U3=(11, -1800),
    U4=(12, -1800),
    S1=(13, 1800))
# Teachers of odd and even seeds, from a seed on. U3 and U4 are what U1 and U2
# become on another kind of CPU, see the amendment after seed 206.
UNSEEN_TEACHERS = {FIRST_SEED: ('U1', 'U2'), 207: ('U3', 'U4')}
# Arms of block A and their numbers of seeds. KD and T = 1.5 have the 20 runs
# of blocks C and D, by the rule of the look after ten seeds.
ARMS_A = {
    'baseline': 16,
    'hard': 12,
    'kd': 42,
    'tcal-t1': 12,
    'tcal-t1.5': 42,
    'tcal-t3': 16
}
ARMS_SOFTMAX_REAL = ('baseline', 'hard', 'kd', 'tcal-t1', 'tcal-t1.5')
ARMS_FOCAL = ('baseline', 'as-is', 'tcal-t1.5', 'platt', 'focal-posterior')
BCCD_CONFIGS = dict(
    softmax=CONFIGS + 'faster-rcnn_mobilenetv2_bccd.py',
    focal=CONFIGS + 'atss_mobilenetv2_bccd.py')
BCCD_SEEDS = (1, 2)
# Seed 1 gives a teacher the initial weights of its first students, which was
# found out when block F had its first seed. Block S has another.
BCCD_TEACHER_SEEDS = dict(focal=1, softmax=21)
# Folds whose teacher of seed 2 is what the teacher of seed 1 becomes on
# another kind of CPU, see the amendment after seed 1 of block S.
REMADE_FOLDS = (1, 2, 3, 4)
BCCD_STUDENT_EPOCHS, BCCD_TEACHER_EPOCHS = 48, 24
# Of the 73 images of its part, a student sees the first half.
BCCD_STUDENT_IMAGES = 36


@dataclass(frozen=True)
class Run:
    """One training and what is measured of it.

    Attributes:
        name (str): Name in the results file and folder of the run.
        block (str): Key of ``BLOCKS``.
        data (str): 'digits' or 'bccd'.
        head (str): 'softmax' or 'focal'.
        arm (str): Name of the treatment; 'teacher' for a teacher.
        seed (int): Random seed of the training.
        config (str): Path from the repository's root.
        epochs (int): Length of the training.
        round (int): Place in the order of runs: all arms of a seed are in
            one round.
        teacher (str, optional): Name of the teacher.
        needs (tuple[str]): Files that an earlier run writes.
        fold (int, optional): Number of the fold.
        loss_weight (float, optional): Weight of the arm's own loss.
        overrides (dict): Changes of the config.
    """
    name: str
    block: str
    data: str
    head: str
    arm: str
    seed: int
    config: str
    epochs: int
    round: int
    teacher: Optional[str] = None
    needs: Tuple[str, ...] = ()
    fold: Optional[int] = None
    loss_weight: Optional[float] = None
    overrides: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Runs that answer one question.

    Attributes:
        title (str): The question.
        runs (list[Run]): In the order in which they are made.
    """
    title: str
    runs: List[Run]


def softmax_arm(arm: str,
                teacher: Dict[str, str],
                student_type: str = 'FasterRCNN',
                weight: float = SOFTMAX_WEIGHT) -> Dict[str, Any]:
    """Changes that make an arm of a plain student with a softmax head.

    Args:
        arm (str): 'baseline', 'hard', 'kd' or 'tcal-t<temperature>'.
        teacher (dict[str, str]): 'config' and 'checkpoint'.
        student_type (str): Type of the detector. Defaults to 'FasterRCNN'.
        weight (float): Weight of the distillation loss, or of hard labels
            beside those of weight 1. Defaults to 16.
    """
    if arm == 'baseline':
        return {}
    if arm == 'hard':
        return dict(
            model=dict(
                roi_head=dict(
                    bbox_head=dict(loss_cls=dict(loss_weight=1 + weight)))))
    if arm == 'kd':
        loss = dict(type='EqualGradientKDLoss', loss_weight=weight)
    else:
        loss = dict(type='LogitKLDivLoss', loss_weight=weight)
        teacher = dict(teacher, calibrator=_temperature(arm))
    return _distilled(student_type, teacher, loss)


def focal_arm(arm: str, teacher: Dict[str, str],
              calibration: str) -> Dict[str, Any]:
    """Changes that make an arm of a plain student with a focal head.

    Args:
        arm (str): One of ``ARMS_FOCAL``.
        teacher (dict[str, str]): 'config' and 'checkpoint'.
        calibration (str): Path of the fitted Platt scaling.
    """
    if arm == 'baseline':
        return {}
    if arm == 'platt':
        teacher = dict(
            teacher,
            calibrator=dict(type='PlattScaling', load_from=calibration))
    elif arm == 'focal-posterior':
        teacher = dict(
            teacher,
            calibrator=dict(type='FocalPosterior', alpha=0.25, gamma=2.0))
    elif arm != 'as-is':
        teacher = dict(
            teacher, calibrator=dict(_temperature(arm), activation='sigmoid'))
    loss = dict(type='LogitBinaryKLDivLoss', loss_weight=FOCAL_WEIGHT)
    return _distilled('ATSS', teacher, loss)


def _temperature(arm: str) -> Dict[str, Any]:
    return dict(
        type='TemperatureScaling', temperature=float(arm[len('tcal-t'):]))


def _distilled(student_type: str, teacher: Dict[str, Any],
               loss: Dict[str, Any]) -> Dict[str, Any]:
    return dict(
        model=dict(
            type='tcal_det.CalibratedTeacherDistiller',
            student_type=student_type,
            teacher=teacher,
            distill_losses=dict(loss_kd_cls=loss)))


def folder_of(name: str) -> str:
    """Where a run writes."""
    return f'{FOLDER}/{name}'


def _checkpoint(teacher: str, epoch: int) -> str:
    return f'{folder_of(teacher)}/epoch_{epoch}.pth'


def _needs(teacher: str, checkpoint: str) -> Tuple[str, str]:
    """The checkpoint, and the row, which a run writes last."""
    return checkpoint, f'{folder_of(teacher)}/row.json'


def _digit_teachers() -> List[Run]:
    return [
        Run(f'digits/teachers/{name}',
            'T',
            'digits',
            'softmax',
            'teacher',
            seed,
            CONFIGS + 'digits_teacher.py',
            TEACHER_EPOCHS,
            round=_first_round(name),
            teacher=name,
            overrides=dict(
                train_dataloader=dict(dataset=dict(indices=indices))))
        for name, (seed, indices) in DIGIT_TEACHERS.items()
    ]


def _first_round(teacher: str) -> int:
    """Round of the first student of a teacher on the digit scenes."""
    if teacher == 'S1':
        return 1 + ROUND_OF['B']
    return next(seed - FIRST_SEED + 1 for seed in _seeds(max(ARMS_A.values()))
                if unseen_teacher(seed) == teacher)


def unseen_teacher(seed: int) -> str:
    """Name of the teacher of a seed on the digit scenes."""
    first = max(start for start in UNSEEN_TEACHERS if start <= seed)
    odd, even = UNSEEN_TEACHERS[first]
    return odd if seed % 2 else even


def _digits(block: str,
            arm: str,
            seed: int,
            teacher: Optional[str] = None,
            label: Optional[str] = None,
            weight: float = SOFTMAX_WEIGHT) -> Run:
    """A student on the digit scenes, of the teacher of its seed."""
    teacher = teacher or unseen_teacher(seed)
    name = f'digits/teachers/{teacher}'
    checkpoint = _checkpoint(name, TEACHER_EPOCHS)
    has_teacher = arm not in ('baseline', 'hard')
    return Run(
        f'digits/{block}/{label or arm}/seed{seed}',
        block,
        'digits',
        'softmax',
        label or arm,
        seed,
        CONFIGS + 'digits_student.py',
        STUDENT_EPOCHS,
        round=seed - FIRST_SEED + 1 + ROUND_OF[block],
        teacher=teacher if has_teacher else None,
        needs=_needs(name, checkpoint) if has_teacher else (),
        loss_weight=None if arm == 'baseline' else weight,
        overrides=softmax_arm(
            arm,
            dict(config=CONFIGS + 'digits_teacher.py', checkpoint=checkpoint),
            weight=weight))


def _seeds(count: int) -> range:
    return range(FIRST_SEED, FIRST_SEED + count)


def _bccd(block: str, head: str, arms: Tuple[str, ...]) -> Iterator[Run]:
    """Students and teachers on BCCD: a round is a fold and a seed."""
    for number, seed in enumerate(BCCD_SEEDS):
        for fold in range(NUM_FOLDS):
            yield from _fold(block, head, arms, fold, seed,
                             1 + fold + NUM_FOLDS * number)


def _fold(block: str, head: str, arms: Tuple[str, ...], fold: int, seed: int,
          round_: int) -> Iterator[Run]:
    config = BCCD_CONFIGS[head]
    is_first = seed == BCCD_SEEDS[0]
    is_remade = not is_first and fold in REMADE_FOLDS
    teacher_name = f'{head}-fold{fold}' + ('-remade' if is_remade else '')
    teacher = f'bccd/teachers/{teacher_name}'
    if is_first or is_remade:
        yield Run(
            teacher,
            'T',
            'bccd',
            head,
            'teacher',
            BCCD_TEACHER_SEEDS[head],
            config,
            BCCD_TEACHER_EPOCHS,
            round_,
            teacher=teacher_name,
            fold=fold,
            overrides=_bccd_data(fold, 'teacher'))
    checkpoint = _checkpoint(teacher, BCCD_TEACHER_EPOCHS)
    calibration = f'{folder_of(teacher)}/calibration/teacher_calibration.json'
    source = dict(
        config=f'{folder_of(teacher)}/config.py', checkpoint=checkpoint)
    for arm in arms:
        has_teacher = arm not in ('baseline', 'hard')
        changes = softmax_arm(arm, source) if head == 'softmax' else focal_arm(
            arm, source, calibration)
        yield Run(
            f'bccd/{block}/{arm}/fold{fold}-seed{seed}',
            block,
            'bccd',
            head,
            arm,
            seed,
            config,
            BCCD_STUDENT_EPOCHS,
            round_,
            teacher=teacher_name if has_teacher else None,
            needs=_needs(teacher, checkpoint) if has_teacher else (),
            fold=fold,
            loss_weight=None if arm == 'baseline' else
            SOFTMAX_WEIGHT if head == 'softmax' else FOCAL_WEIGHT,
            overrides=dict(
                _bccd_data(fold, 'student', indices=BCCD_STUDENT_IMAGES),
                **changes))


def _bccd_data(fold: int, part: str, **changes: Any) -> Dict[str, Any]:

    def loader(name: str, **changes: Any) -> Dict[str, Any]:
        return dict(
            dataset=dict(
                ann_file=f'{FOLDS}/fold{fold}/{name}.json', **changes))

    return dict(
        train_dataloader=loader(part, **changes),
        val_dataloader=loader('val'),
        test_dataloader=loader('test'))


# Rounds by which a block starts later than blocks A and F: what decides comes
# first.
ROUND_OF = dict(A=0, B=4, W=8)


def _blocks() -> Dict[str, Block]:
    blocks = dict(
        A=Block('Does a calibrated teacher beat classic KD and hard labels?', [
            _digits('A', arm, seed) for arm, count in ARMS_A.items()
            for seed in _seeds(count)
        ]),
        B=Block('Does softening help with a teacher that has seen the scenes?',
                [
                    _digits('B', arm, seed, 'S1')
                    for arm in ('tcal-t1', 'tcal-t3') for seed in _seeds(8)
                ]),
        W=Block('Does the loss weight decide?', [
            _digits('W', arm, seed, label=f'{arm}-w4', weight=4.0)
            for arm in ('hard', 'kd', 'tcal-t1', 'tcal-t1.5')
            for seed in _seeds(4)
        ]))
    teachers = _digit_teachers()
    for block, head, arms, title in ((
            'F', 'focal', ARMS_FOCAL,
            'Calibrate or soften the teacher of a focal head? Blood cells'),
                                     ('S', 'softmax', ARMS_SOFTMAX_REAL,
                                      'Does block A hold on blood cells?')):
        runs = list(_bccd(block, head, arms))
        teachers += [run for run in runs if run.block == 'T']
        blocks[block] = Block(title, [run for run in runs if run.block != 'T'])
    blocks['T'] = Block('The teachers', teachers)
    return {
        name: Block(block.title, sorted(block.runs, key=lambda run: run.round))
        for name, block in blocks.items()
    }


BLOCKS = _blocks()
# In the order in which the runs of a round are made.
DEFAULT_BLOCKS = 'FABSW'


def in_order(blocks: str) -> List[Run]:
    """Runs of some blocks and of their teachers, round after round.

    Args:
        blocks (str): Letters of ``BLOCKS``.

    Returns:
        list[Run]: A stop after any of them leaves the arms of all seeds but
        the last equally complete.
    """
    order = {name: place for place, name in enumerate('T' + blocks)}
    runs = [run for name in order for run in BLOCKS[name].runs]
    needed = {need for run in runs for need in run.needs}
    return sorted((run for run in runs if run.block != 'T' or any(
        need.startswith(folder_of(run.name) + '/') for need in needed)),
                  key=lambda run: (run.round, order[run.block]))
