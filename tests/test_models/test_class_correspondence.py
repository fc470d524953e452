"""Merged classes, against sums of probabilities in float64."""
import math

import pytest
import torch

from tcal_det.models.class_correspondence import (ClassCorrespondence,
                                                  LogitColumns, SharedClass)
from tcal_det.models.head_adapters import ClassificationSamples

# The student knows a b c d; the teacher knows z b y a B2 x.
# Shared: a (teacher 3), b (teacher 1 and 4); d and c are the student's own.
SHARED = [SharedClass(0, (3, )), SharedClass(1, (1, 4))]
FOREIGN = [0, 2, 5]
SOFTMAX = dict(
    student=LogitColumns('softmax', 4, 5),
    teacher=LogitColumns('softmax', 6, 7))
SIGMOID = dict(
    student=LogitColumns('sigmoid', 4, 4),
    teacher=LogitColumns('sigmoid', 6, 6))


def logits(columns, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(
        9, columns.cls_channels, generator=generator, dtype=dtype)


def samples(columns, **values):
    own = logits(columns, seed=1)
    return ClassificationSamples(
        own,
        torch.zeros(len(own), dtype=torch.long),
        None,
        labels=torch.tensor([0, 1, 2, 3, 4, 0, 1, -1, 4]),
        **values)


def probabilities(rows):
    """Softmax, by the formula."""
    weights = [[math.exp(z) for z in row] for row in rows.tolist()]
    return [[w / math.fsum(row) for w in row] for row in weights]


def test_softmax_teacher_by_enumeration():
    raw = logits(SOFTMAX['teacher'])
    merged = ClassCorrespondence(**SOFTMAX, shared=SHARED).of_teacher(raw)
    expected = [[
        p[3], p[1] + p[4],
        math.fsum([p[label] for label in FOREIGN] + [p[6]])
    ] for p in probabilities(raw)]
    assert merged.softmax(1).flatten().tolist() == pytest.approx(
        sum(expected, []), abs=1e-10)


def test_softmax_student_by_enumeration():
    own = samples(SOFTMAX['student'])
    merged = ClassCorrespondence(**SOFTMAX, shared=SHARED).of_student(own)
    expected = [[p[0], p[1], p[2] + p[3] + p[4]]
                for p in probabilities(own.logits)]
    assert merged.logits.softmax(1).flatten().tolist() == pytest.approx(
        sum(expected, []), abs=1e-10)
    # c and d are of the rest, as background is.
    assert merged.labels.tolist() == [0, 1, 2, 2, 2, 0, 1, 2, 2]


def test_merged_divergence_is_the_known_part_of_the_full_one():
    """Chain rule: KL = KL of the partition + rest * KL inside the rest."""
    columns = LogitColumns('softmax', 5, 6)
    shared = [SharedClass(1, (1, )), SharedClass(3, (3, ))]
    classes = ClassCorrespondence(columns, columns, shared)
    teacher, student = logits(columns, 2), logits(columns, 3)
    own = ClassificationSamples(student, torch.zeros(9, dtype=torch.long),
                                None)

    def divergence(p, q):
        return [
            math.fsum(a * math.log(a / b) for a, b in zip(*rows))
            for rows in zip(p, q)
        ]

    def inside(p):
        rest = [[row[k] for k in (0, 2, 4, 5)] for row in p]
        return [[v / math.fsum(row) for v in row] for row in rest]

    p, q = probabilities(teacher), probabilities(student)
    mass = [math.fsum(row[k] for k in (0, 2, 4, 5)) for row in p]
    expected = [
        full - share * part for full, share, part in zip(
            divergence(p, q), mass, divergence(inside(p), inside(q)))
    ]
    merged = divergence(
        classes.of_teacher(teacher).softmax(1).tolist(),
        classes.of_student(own).logits.softmax(1).tolist())
    assert merged == pytest.approx(expected, abs=1e-10)


def test_sigmoid_columns_are_left_out_and_the_best_of_several_is_taken():
    raw, own = logits(SIGMOID['teacher']), samples(
        SIGMOID['student'], quality=torch.full((9, ), 0.7))
    classes = ClassCorrespondence(**SIGMOID, shared=SHARED)
    merged = classes.of_teacher(raw)
    assert merged.tolist() == [[row[3], max(row[1], row[4])]
                               for row in raw.tolist()]
    taught = classes.of_student(own)
    assert taught.logits.tolist() == own.logits[:, :2].tolist()
    assert taught.labels.tolist() == [0, 1, 2, 2, 2, 0, 1, 2, 2]
    kept = [0.7 if label < 2 else 0 for label in taught.labels.tolist()]
    assert taught.quality.tolist() == pytest.approx(kept)


def test_classes_that_are_left_out_get_no_gradient():
    own = samples(SIGMOID['student'])
    own.logits.requires_grad_()
    ClassCorrespondence(
        **SIGMOID,
        shared=SHARED).of_student(own).logits.square().sum().backward()
    assert (own.logits.grad[:, :2] != 0).all()
    assert (own.logits.grad[:, 2:] == 0).all()


def test_softmax_teacher_of_a_sigmoid_student():
    raw = logits(SOFTMAX['teacher'])
    classes = ClassCorrespondence(SIGMOID['student'], SOFTMAX['teacher'],
                                  SHARED)
    expected = [[p[3], p[1] + p[4]] for p in probabilities(raw)]
    assert classes.of_teacher(
        raw).sigmoid().flatten().tolist() == pytest.approx(
            sum(expected, []), abs=1e-10)


def test_sigmoid_teacher_of_a_softmax_student():
    raw = logits(SIGMOID['teacher'])
    classes = ClassCorrespondence(SOFTMAX['student'], SIGMOID['teacher'],
                                  SHARED)
    expected = []
    for row in raw.tolist():
        odds = [math.exp(row[3]), math.exp(max(row[1], row[4])), 1.0]
        expected += [one / math.fsum(odds) for one in odds]
    assert classes.of_teacher(raw).softmax(
        1).flatten().tolist() == pytest.approx(
            expected, abs=1e-10)


@pytest.mark.parametrize('activation, cls_channels', [('softmax', 5),
                                                      ('sigmoid', 4),
                                                      ('sigmoid', 5)])
def test_permuted_classes_are_the_same_digits(activation, cls_channels):
    """Of a sigmoid head with a background column too."""
    columns = LogitColumns(activation, 4, cls_channels)
    order = [2, 0, 3, 1]
    raw = logits(columns, dtype=torch.float16)
    permuted = raw.clone()
    for label, place in enumerate(order):
        permuted[:, place] = raw[:, label]
    classes = ClassCorrespondence(
        columns, columns,
        [SharedClass(label, (place, )) for label, place in enumerate(order)])
    answer = classes.of_teacher(permuted)
    assert answer.dtype == torch.float16 and torch.equal(answer, raw)
    own = samples(columns)
    assert classes.of_student(own) is own
    assert not classes.is_identity


def test_same_classes_change_nothing():
    for columns in (LogitColumns('softmax', 3,
                                 4), LogitColumns('sigmoid', 3, 3),
                    LogitColumns('sigmoid', 3, 4)):
        classes = ClassCorrespondence(columns, columns)
        raw, own = logits(columns), samples(columns)
        assert classes.is_identity and classes.num_classes == 3
        assert classes.of_teacher(raw) is raw
        assert classes.of_student(own) is own


def test_a_background_column_that_only_one_has_is_left_out():
    """Mmdet's sigmoid RoI heads have one, dense heads have none."""
    with_column = LogitColumns('sigmoid', 3, 4)
    without = LogitColumns('sigmoid', 3, 3)
    classes = ClassCorrespondence(with_column, without)
    assert classes.of_student(samples(with_column)).logits.shape == (9, 3)
    assert classes.of_teacher(logits(without)).shape == (9, 3)
    classes = ClassCorrespondence(without, with_column)
    raw = logits(with_column)
    assert torch.equal(classes.of_teacher(raw), raw[:, :3])


def test_softmax_teacher_fills_the_background_column_of_a_sigmoid_student():
    student = LogitColumns('sigmoid', 3, 4)
    teacher = LogitColumns('softmax', 3, 4)
    classes = ClassCorrespondence(student, teacher)
    own, raw = samples(student), logits(teacher)
    assert classes.of_student(own) is own
    assert classes.of_teacher(raw).sigmoid().flatten().tolist() == (
        pytest.approx(sum(probabilities(raw), []), abs=1e-10))


@pytest.mark.parametrize('heads', [SOFTMAX, SIGMOID])
def test_no_samples(heads):
    classes = ClassCorrespondence(**heads, shared=SHARED)
    columns = 3 if heads is SOFTMAX else 2
    assert classes.of_teacher(logits(heads['teacher'])[:0]).shape == (0,
                                                                      columns)
    own = samples(heads['student']).subset(torch.zeros(0, dtype=torch.long))
    assert classes.of_student(own).logits.shape == (0, columns)


def test_half_precision_is_widened_where_classes_are_merged():
    raw = torch.tensor([[-10.] * 6 + [11.]], dtype=torch.float16)
    merged = ClassCorrespondence(**SOFTMAX, shared=SHARED).of_teacher(raw)
    assert merged.dtype == torch.float32
    assert merged[0, 1].item() == pytest.approx(-10 + math.log(2))


def test_labels_of_both():
    columns = LogitColumns('softmax', 4, 5)
    classes = ClassCorrespondence(
        columns, columns,
        [SharedClass(1, (3, )), SharedClass(2, (2, 0))])
    own, other = classes.labels_of_both(torch.tensor([1, 0, 1]))
    assert own.tolist() == [2, 1, 2] and other.tolist() == [2, 3, 2]
    own, other = ClassCorrespondence(columns, columns).labels_of_both(
        torch.tensor([3, 0]))
    assert own.tolist() == other.tolist() == [3, 0]
