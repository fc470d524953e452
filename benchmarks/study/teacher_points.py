"""Teachers, and the students that each of them taught."""
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from .comparisons import UNCALIBRATED, Entry
from .estimates import NAN, Correlation, Mean, correlation, mean_of
from .plan import CHECKPOINTS, FRESH_SEEDS, FRESH_TEACHER
from .rows import Record, as_temperature, by_seed, finished_runs

# Figures of a teacher that a student's may depend on.
TEACHER_FIGURES = dict(
    ece='ECE',
    miscalibration='over - under',
    ace='ACE',
    nll='NLL',
    val_mAP='mAP')


class TeacherPoint(NamedTuple):
    """A teacher at one temperature.

    Attributes:
        figures (dict): What was measured of it, as the JSON has it.
        students (list[dict]): Runs that differ in their seed only.
    """
    figures: Dict[str, Any]
    students: List[Record]

    @property
    def temperature(self) -> float:
        """Of its calibrator; 1 for the teacher as it is."""
        return as_temperature(self.figures['temperature'])

    @property
    def is_copy(self) -> bool:
        """Whether a temperature changed it."""
        return self.temperature != 1.0

    @property
    def label(self) -> str:
        """How tables and figures name it."""
        if not self.is_copy:
            return self.figures['name']
        fitted = 'fitted ' if self.temperature == self.figures[
            'fitted_temperature'] else ''
        return f'{self.figures["name"]}, {fitted}T = {self.temperature:.3g}'

    def figure(self, key: str) -> float:
        """One of its figures, NaN where undefined.

        'miscalibration' has a sign: above 0 the teacher is over-confident.
        """
        if key == 'miscalibration':
            return self.figure('over') - self.figure('under')
        value = self.figures[key]
        return NAN if value is None else value

    def student(self, figure: str) -> Mean:
        """A figure of its students on test, over seeds."""
        return mean_of(list(by_seed(self.students, 'test', figure).values()))

    def student_miscalibration(self) -> Mean:
        """Signed D-ECE of its students: above 0 if over-confident."""
        over = by_seed(self.students, 'test', 'D-ECE over')
        under = by_seed(self.students, 'test', 'D-ECE under')
        return mean_of(
            [over[seed] - under[seed] for seed in over if seed in under])


def teacher_points(results: Dict[str, Any]) -> List[TeacherPoint]:
    """The teachers of the runs on fresh seeds, as they are and as copies.

    All students have the same loss at the same weight. Of each teacher those
    seeds count that all teachers have, for seeds differ more than teachers do.

    Args:
        results (dict): The study's.

    Returns:
        list[TeacherPoint]: By name and epoch, then temperature; copies only
        if they taught a student.
    """
    teachers = (FRESH_TEACHER, *CHECKPOINTS)
    students: Dict[Tuple[str, float], List[Record]] = {}
    for run in finished_runs(results['runs'], 'confirmation', 'copies'):
        if run['teacher'] in teachers and run['seed'] in FRESH_SEEDS:
            key = run['teacher'], as_temperature(run['temperature'])
            students.setdefault(key, []).append(run)
    common = set(FRESH_SEEDS).intersection(*({run['seed']
                                              for run in group}
                                             for group in students.values()))
    points = []
    for figures in results['teachers']:
        if figures['name'] in teachers:
            point = TeacherPoint(figures, [])
            taught = students.get((figures['name'], point.temperature), [])
            if taught or not point.is_copy:
                points.append(
                    point._replace(students=[
                        run for run in taught if run['seed'] in common
                    ]))
    return sorted(
        points,
        key=lambda point: (point.figures['name'].rpartition('_e')[0], point.
                           figures['epoch'], point.temperature))


def taught_points(results: Dict[str, Any]) -> List[TeacherPoint]:
    """The teachers that taught a student."""
    return [point for point in teacher_points(results) if point.students]


def scopes(points: List[TeacherPoint]) -> List[Tuple[str, List[TeacherPoint]]]:
    """Over which teachers a correlation is taken.

    Copies of one teacher differ in calibration alone; different teachers
    differ in everything. Together they may show what neither does.

    Args:
        points (list[TeacherPoint]): All of them.

    Returns:
        list[tuple[str, list[TeacherPoint]]]: Name and teachers.
    """
    checkpoints = [point for point in points if not point.is_copy]
    groups = [('all', points), ('different checkpoints', checkpoints)]
    for name in dict.fromkeys(point.figures['name'] for point in points):
        family = [point for point in points if point.figures['name'] == name]
        if any(point.is_copy for point in family):
            groups.append((f'copies of {name}', family))
    return groups


def changes_of_teachers(results: Dict[str, Any],
                        figure: str) -> List[Tuple[str, Mean]]:
    """How far the students of each teacher are from those of one teacher.

    Args:
        results (dict): The study's.
        figure (str): Of the students, on test.

    Returns:
        list[tuple[str, Mean]]: Name of a teacher or copy, and its students'
        figure minus that of ``FRESH_TEACHER`` as it is, by seed.
    """
    entries = {
        point.label: Entry(UNCALIBRATED, None, point.students)
        for point in taught_points(results)
    }
    reference = entries.pop(FRESH_TEACHER, None)
    if reference is None:
        return []
    return [(label, entry.change(reference, figure))
            for label, entry in entries.items()]


def correlate_with_map(points: Sequence[TeacherPoint],
                       key: str) -> Correlation:
    """A figure of teachers and the mean mAP of their students."""
    return correlation([point.figure(key) for point in points],
                       [point.student('mAP').mean for point in points])


def correlate_with_d_ece(points: Sequence[TeacherPoint],
                         key: str,
                         is_signed: bool = False) -> Correlation:
    """A figure of teachers and the mean D-ECE of their students."""
    students = [
        point.student_miscalibration() if is_signed else point.student('D-ECE')
        for point in points
    ]
    return correlation([point.figure(key) for point in points],
                       [student.mean for student in students])
