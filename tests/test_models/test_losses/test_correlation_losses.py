"""DIST and CMKD against scipy and numpy."""
import numpy as np
import pytest
import torch
from scipy import stats

from tcal_det.errors import InvalidValueError
from tcal_det.models.losses import CMKDLoss, DISTLoss
from tcal_det.models.losses.correlation import pearson, soft_rank
from tests.test_models.test_losses.loss_cases import random_inputs


def numpy_inputs(samples=6, classes=5):
    student, teacher, _ = random_inputs(samples, classes)
    return student, teacher, student.detach().numpy(), teacher.numpy()


def softmax(logits):
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True)


def weighted_pearson(a, b, weight):
    covariance = np.cov(a, b, aweights=weight)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])


def test_dist_against_scipy():
    student, teacher, s, t = numpy_inputs()
    s, t = softmax(s / 2), softmax(t / 2)
    inter = np.mean([1 - stats.pearsonr(s[n], t[n])[0] for n in range(6)])
    intra = np.mean(
        [1 - stats.pearsonr(s[:, c], t[:, c])[0] for c in range(5)])
    loss = DISTLoss(temperature=2, inter_weight=3, intra_weight=.5)
    assert loss(student, teacher).item() == pytest.approx(
        4 * (3 * inter + .5 * intra), rel=1e-9)


def test_dist_weights_against_numpy():
    student, teacher, s, t = numpy_inputs()
    s, t = softmax(s), softmax(t)
    weight = np.array([1, 2, .5, 1, 0, 3])
    inter = sum(weight[n] * (1 - stats.pearsonr(s[n], t[n])[0])
                for n in range(6)) / 5
    intra = np.mean(
        [1 - weighted_pearson(s[:, c], t[:, c], weight)
         for c in range(5)]) * 7.5 / 5
    assert DISTLoss()(
        student, teacher, weight=torch.from_numpy(weight),
        avg_factor=5).item() == pytest.approx(
            inter + intra, rel=1e-9)


def test_dist_leaves_out_the_second_term_for_one_sample():
    student, teacher, s, t = numpy_inputs(samples=1)
    expected = 1 - stats.pearsonr(softmax(s)[0], softmax(t)[0])[0]
    assert DISTLoss()(student, teacher).item() == pytest.approx(expected)


def test_constant_vector_correlates_with_nothing():
    student = torch.full((3, 4), .25, requires_grad=True)
    teacher = torch.tensor([[.4, .3, .2, .1]]).repeat(3, 1)
    correlation = pearson(student, teacher, dim=1)
    correlation.sum().backward()
    assert correlation.tolist() == [0, 0, 0]
    assert student.grad.abs().max() < 2.5e4


def test_cmkd_against_scipy():
    student, teacher, s, t = numpy_inputs()
    difficulty = stats.entropy(softmax(t), axis=1) / np.log(5)
    by_value = [
        1 - stats.pearsonr(*rows)[0] for rows in zip(softmax(s), softmax(t))
    ]
    by_rank = [1 - stats.spearmanr(*rows)[0] for rows in zip(s, t)]
    expected = np.mean((1 - difficulty) * by_value + difficulty * by_rank)
    # Hard ranks: no two logits of a row are closer than 1e-3.
    assert CMKDLoss(rank_temperature=1e-5)(student,
                                           teacher).item() == pytest.approx(
                                               expected, rel=1e-9)


@pytest.mark.parametrize('loss, name', [
    (DISTLoss, 'temperature'),
    (CMKDLoss, 'rank_temperature'),
])
def test_bad_temperature_is_named(loss, name):
    with pytest.raises(InvalidValueError, match=f'`{name}`'):
        loss(**{name: 0.})


@pytest.mark.parametrize('name', ['inter_weight', 'intra_weight'])
def test_bad_weight_is_named(name):
    with pytest.raises(InvalidValueError, match=f'`{name}`'):
        DISTLoss(**{name: -1.})


def test_length_of_a_row_is_no_other_rows_business():
    rows = torch.tensor([[1e6, 2e6, 4e6], [1., 3., 2.]])
    other = torch.tensor([[1e6, 4e6, 2e6], [1., 2., 4.]])
    expected = [stats.pearsonr(*pair)[0] for pair in zip(rows, other)]
    assert pearson(rows, other, dim=1).tolist() == pytest.approx(expected)


def test_soft_ranks_are_ranks():
    logits = random_inputs()[1]
    logits[0, 1] = logits[0, 3]
    ranks = soft_rank(logits, 1e-6).numpy()
    np.testing.assert_allclose(ranks, stats.rankdata(logits, axis=1))
