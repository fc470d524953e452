"""PKD, CWD and the score-weighted error against their formulas."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.models.losses import CWDLoss, PKDLoss, Scene, ScoreWeightedL2Loss
from tests.test_models.test_losses.feature_cases import (OTHER, make_loss,
                                                         random_maps,
                                                         random_scene)


def maps(*channels):
    """One image and level of a single row, channel by channel."""
    return [torch.tensor([[[row] for row in channels]], dtype=torch.float64)]


class TestPKDLoss:

    def test_by_hand(self):
        """Standardized: (-1, 0, 1) and (-1, 1, 0) of unit variance."""
        value = PKDLoss()(maps([1., 2., 3.]), maps([5., 9., 7.]))
        # (0 + 1 + 1) / 3 / 2, but for 1e-6 beside the deviation.
        assert value.item() == pytest.approx(1 / 3, rel=1e-5)
        opposite = PKDLoss()(maps([1., 2., 3.]), maps([3., 2., 1.]))
        assert opposite.item() == pytest.approx(4 / 3, rel=1e-5)

    def test_is_one_minus_the_correlation(self):
        """With the factor (M - 1) / M of the unbiased deviation."""
        student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
        expected = 0.0
        for own, other in zip(student, teacher):
            rows = [
                level.transpose(0, 1).flatten(1).numpy()
                for level in (own, other)
            ]
            number = rows[0].shape[1]
            rho = [np.corrcoef(a, b)[0, 1] for a, b in zip(*rows)]
            expected += (1 - np.mean(rho)) * (number - 1) / number
        assert PKDLoss()(student, teacher).item() == pytest.approx(
            expected, rel=1e-5)

    @given(
        st.floats(0.1, 10), st.floats(-10, 10), st.floats(0.1, 10),
        st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_scale_and_offset_of_a_channel_do_not_matter(
            self, scale, offset, other_scale, seed):
        student, teacher = random_maps(OTHER,
                                       seed), random_maps(OTHER, seed + 1)
        scales = scale * torch.arange(1., 6)[:, None, None]
        moved = [scales * student[0] + offset, student[1] - offset]
        its = [other_scale * teacher[0] - offset, teacher[1]]
        assert PKDLoss()(moved, its).item() == pytest.approx(
            PKDLoss()(student, teacher).item(), rel=1e-4)

    def test_negative_scale_does(self):
        teacher = random_maps(OTHER)
        value = PKDLoss()([-level for level in teacher], teacher).item()
        # 2 (M - 1) / M of M = 48 and M = 12 positions.
        assert value == pytest.approx(2 * (47 / 48 + 11 / 12), rel=1e-5)

    def test_constant_channel_is_zero(self):
        """Against one that varies: the mean of its squares, halved."""
        value = PKDLoss()(maps([4., 4., 4.]), maps([5., 9., 7.]))
        assert value.item() == pytest.approx(1 / 3, rel=1e-5)
        assert PKDLoss()(maps([4., 4., 4.]), maps([5., 5., 5.])).item() == 0

    @pytest.mark.parametrize('constant', [0.0, 0.1, 0.7, -3.3, 100.1])
    def test_rounding_of_a_constant_has_no_gradient(self, constant):
        """In float32 the mean of equal values is not those values."""
        student, teacher = (
            level[0].float()
            for level in (random_maps([4], sizes=[(20, 30)]),
                          random_maps([4], seed=1, sizes=[(20, 30)])))
        student[:, 0] = constant
        student.requires_grad_()
        PKDLoss()([student], [teacher]).backward()
        assert (student.grad[:, 0] == 0).all()
        assert 0 < student.grad[:, 1].norm() < 0.1


class TestCWDLoss:

    def test_by_hand(self):
        """One channel (1/2, 1/2) against (3/4, 1/4), one that is equal."""
        log_3 = math.log(3)
        value = CWDLoss()(maps([0., 0.], [1., 2.]), maps([log_3, 0.],
                                                         [1., 2.]))
        kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
        assert value.item() == pytest.approx(kl / 2, rel=1e-12)

    @pytest.mark.parametrize('temperature', [1.0, 4.0])
    def test_by_the_formula(self, temperature):
        student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
        expected = 0.0
        for own, other in zip(student, teacher):
            num_images, channels = own.shape[:2]
            for image in range(num_images):
                for channel in range(channels):
                    q, p = (
                        np.exp(level[image, channel].numpy() / temperature)
                        for level in (own, other))
                    q, p = q / q.sum(), p / p.sum()
                    expected += temperature**2 * (p * np.log(p / q)).sum() / (
                        num_images * channels)
        value = CWDLoss(temperature=temperature)(student, teacher)
        assert value.item() == pytest.approx(expected, rel=1e-10)

    def test_offset_of_a_channel_does_not_matter(self):
        student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
        offset = torch.arange(5.)[:, None, None]
        moved = [student[0] + offset, student[1] - 3]
        assert CWDLoss()(moved, teacher).item() == pytest.approx(
            CWDLoss()(student, teacher).item(), rel=1e-10)


class TestScoreWeightedL2Loss:

    def test_by_hand(self):
        """Mean squares (1 + 9) / 2 and (4 + 0) / 2, weighted 1 to 3."""
        scene = Scene(scores=[torch.tensor([[[[0.25, 0.75]]]])])
        value = ScoreWeightedL2Loss()(maps([1., 2.], [3., 0.]),
                                      maps([0., 0.], [0., 0.]), scene)
        assert value.item() == pytest.approx(0.25 * 5 + 0.75 * 2, rel=1e-7)

    def test_by_the_formula(self):
        student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
        scene = random_scene()
        expected = 0.0
        for own, other, score in zip(student, teacher, scene.scores):
            gap = ((own - other)**2).numpy().mean(axis=1)
            expected += np.average(gap, weights=score.numpy()[:, 0])
        assert ScoreWeightedL2Loss()(student, teacher, scene).item() == (
            pytest.approx(expected, rel=1e-10))

    def test_equal_scores_give_the_mean_square(self):
        student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
        scores = [torch.full_like(level[:, :1], 0.3) for level in teacher]
        expected = sum(
            ((own - other)**2).mean() for own, other in zip(student, teacher))
        assert ScoreWeightedL2Loss()(student, teacher,
                                     Scene(scores)).item() == pytest.approx(
                                         expected.item(), rel=1e-10)

    def test_nothing_seen_teaches_nothing(self):
        loss = make_loss('score_weighted')
        student = [level.requires_grad_() for level in random_maps([3, 4])]
        teacher = random_maps(OTHER, seed=1)
        value = loss(student, teacher,
                     Scene([0 * level[:, :1] for level in teacher]))
        assert value.item() == 0
        value.backward()
        assert all((level.grad == 0).all() for level in student)
