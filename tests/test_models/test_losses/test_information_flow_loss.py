"""Information flow against a version written from the paper."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import InformationFlowLoss
from tcal_det.models.losses.information_flow_loss import (cosine_kernel,
                                                          jeffreys_divergence,
                                                          student_t_kernel)
from tests.test_models.test_losses.feature_cases import (OTHER, OWN, make_loss,
                                                         random_maps, value_of)


def paper_divergence(own, other):
    """Sample by sample, both kernels; rows of shape (S, D)."""
    total, number = 0.0, len(own)
    for kind in ('cosine', 'student-t'):
        probabilities = []
        for rows in (own, other):
            kernel = np.zeros((number, number))
            for i in range(number):
                for j in range(number):
                    a, b = rows[i], rows[j]
                    if kind == 'cosine':
                        norms = np.sqrt((a @ a + 1e-6) * (b @ b + 1e-6))
                        kernel[i, j] = (a @ b / norms + 1) / 2
                    else:
                        gap = np.sqrt(((a - b)**2).sum() + 1e-6)
                        kernel[i, j] = 1 / (1 + gap)
            probabilities.append(kernel / kernel.sum(axis=1, keepdims=True))
        q, p = probabilities
        total += ((p - q) * (np.log(p) - np.log(q))).sum() / number
    return total


def rows_of(maps):
    return maps.permute(0, 2, 3, 1).flatten(0, 2).numpy()


def test_by_the_formula():
    """All positions of both levels, of unlike channels."""
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)
    expected = sum(
        paper_divergence(rows_of(own), rows_of(other))
        for own, other in zip(student, teacher))
    assert value_of(make_loss('flow'), student, teacher).item() == (
        pytest.approx(expected, rel=1e-9))


def test_by_hand():
    """Two samples, at right angles for one network, alike for the other."""
    own = torch.tensor([[[[3., 0.]], [[0., 4.]]]]).double()
    other = torch.tensor([[[[5., 5.]]]]).double()
    value = InformationFlowLoss()([own], [other]).item()
    # Cosine: (1, 1/2) / 1.5 against (1, 1) / 2, with the log ratio of 2.
    cosine = (2 / 3 - 1 / 2) * math.log(2)
    # Student-t: (1, 1/6) / (7/6), 5 apart, with the log ratio of 6.
    places = (6 / 7 - 1 / 2) * math.log(6)
    assert value == pytest.approx(cosine + places, rel=2e-3)


def test_kernels():
    rows = torch.tensor([[3., 4.], [-6., -8.], [0., 0.]]).double()
    cosine = cosine_kernel(rows)
    assert cosine[0, 0].item() == pytest.approx(1)
    # Opposite, but the logarithm needs more than 0; nowhere at all.
    assert cosine[0, 1].item() == 1e-6
    assert cosine[0, 2].item() == 0.5
    places = student_t_kernel(rows)
    assert places.diagonal().tolist() == pytest.approx([1 / 1.001] * 3)
    assert places[0, 1].item() == pytest.approx(1 / 16)
    assert places[0, 2].item() == pytest.approx(1 / 6)
    assert torch.equal(places, places.T)


@given(st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_divergence_is_symmetric_and_not_negative(number, seed):
    generator = torch.Generator().manual_seed(seed)
    one, other = (
        torch.rand(number, number, generator=generator).double() + 0.01
        for _ in range(2))
    value = jeffreys_divergence(one, other).item()
    assert value >= 0
    assert jeffreys_divergence(other, one).item() == pytest.approx(
        value, abs=1e-12)
    # The rows are normalised.
    assert jeffreys_divergence(3 * one, one).item() == pytest.approx(
        0, abs=1e-12)


def test_teachers_rotation_does_not_matter():
    """Both kernels know distances and angles only."""
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)
    rotation = torch.linalg.qr(torch.randn(5, 5).double())[0]
    turned = [torch.einsum('ed,ndhw->nehw', rotation, teacher[0]), teacher[1]]
    assert value_of(make_loss('flow'), student, turned).item() == (
        pytest.approx(
            value_of(make_loss('flow'), student, teacher).item(), rel=1e-9))


def test_samples_are_the_same_positions_of_both():
    """Else equal maps would not give 0."""
    loss = make_loss('flow', num_samples=5)
    teacher = random_maps(OTHER)
    for _ in range(3):
        assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)


def test_samples_change_from_step_to_step():
    loss = make_loss('flow', num_samples=4, levels=[0])
    student = [level.requires_grad_() for level in random_maps(OWN)]
    touched = []
    for _ in range(3):
        loss(student, random_maps(OTHER, seed=1)).backward()
        used = student[0].grad.abs().sum(dim=1) > 0
        assert used.sum() == 4
        touched.append(used)
        student[0].grad = None
        assert student[1].grad is None
    assert not torch.equal(touched[0], touched[1])
    # Of both images.
    assert torch.stack(touched).any(dim=0).flatten(1).any(dim=1).all()


def test_levels():
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)
    parts = [
        value_of(make_loss('flow', levels=levels), student, teacher).item()
        for levels in ([0], [-1], [0, -1], None)
    ]
    assert parts[0] != parts[1]
    assert parts[2] == parts[3] == pytest.approx(parts[0] + parts[1])
    assert parts[1] == value_of(
        make_loss('flow', levels=[1]), student, teacher).item()


def test_level_that_is_named_twice():
    with pytest.raises(InvalidValueError, match='each of the 2 levels once'):
        value_of(
            make_loss('flow', levels=[-1, 1]), random_maps(OWN),
            random_maps(OWN))


@pytest.mark.parametrize('levels', [[2], [-3], [0, 5]])
def test_level_that_is_not_there(levels):
    with pytest.raises(
            InvalidValueError,
            match='`levels` must be positions of the 2 levels.*from -2 to 1'):
        value_of(
            make_loss('flow', levels=levels), random_maps(OWN),
            random_maps(OTHER))


@pytest.mark.parametrize('arguments, error', [
    (dict(levels=[]), InvalidTypeError),
    (dict(levels='last'), InvalidTypeError),
    (dict(levels=[True]), InvalidTypeError),
    (dict(levels=[0.5]), InvalidTypeError),
    (dict(levels=[0, 0]), InvalidValueError),
    (dict(num_samples=1), InvalidValueError),
])
def test_arguments_are_checked(arguments, error):
    name, = arguments
    with pytest.raises(error, match=f'`{name}` must'):
        InformationFlowLoss(**arguments)
