"""MLLD and CKD against loops over pairs."""
import itertools
import math

import numpy as np
import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import CKDLoss, LogitKLDivLoss, MLLDLoss
from tcal_det.models.losses.relation import pair_difference_gap
from tests.test_models.test_losses.loss_cases import random_inputs

IMAGE_INDEX = torch.tensor([2., 0., 2., 0., 0., 1.])
WEIGHT = torch.tensor([1., 2., .5, 1., 0., 3.]).double()


def batch_only(**kwargs):
    return MLLDLoss(
        temperatures=[1.], instance_weight=0, class_weight=0, **kwargs)


def class_only(**kwargs):
    return MLLDLoss(
        temperatures=[1.], instance_weight=0, batch_weight=0, **kwargs)


def probabilities(*logits):
    return [one.detach().softmax(dim=1).numpy() for one in logits]


def pairs(image_index):
    return [(i, j) for i, j in itertools.product(range(6), repeat=2)
            if image_index[i] == image_index[j]]


def test_mlld_batch_level_within_an_image():
    student, teacher, _ = random_inputs()
    s, t = probabilities(student, teacher)
    expected = sum(
        (t[i] @ t[j] - s[i] @ s[j])**2 for i, j in pairs(IMAGE_INDEX)) / 6
    assert batch_only()(
        student, teacher, image_index=IMAGE_INDEX).item() == pytest.approx(
            expected, rel=1e-9)
    assert expected != pytest.approx(
        batch_only()(student, teacher).item(), rel=1e-2)


def test_mlld_weights_of_pairs():
    student, teacher, _ = random_inputs()
    s, t = probabilities(student, teacher)
    w = WEIGHT.numpy()
    expected = sum(
        math.sqrt(w[i] * w[j]) * (t[i] @ t[j] - s[i] @ s[j])**2
        for i, j in pairs(IMAGE_INDEX)) / 4
    assert batch_only()(
        student, teacher, weight=WEIGHT, avg_factor=4,
        image_index=IMAGE_INDEX).item() == pytest.approx(
            expected, rel=1e-9)
    gap = sum(
        math.sqrt(w[n]) * (np.outer(t[n], t[n]) - np.outer(s[n], s[n]))
        for n in range(6))
    assert class_only()(
        student, teacher, weight=WEIGHT, avg_factor=4).item() == pytest.approx(
            (gap**2).sum() / 5 * 6 / 4, rel=1e-9)


def test_mlld_levels_and_temperatures_add_up():
    student, teacher, _ = random_inputs()
    parts = 0
    for temperature in (2, 5):
        instance = LogitKLDivLoss(temperature)
        batch, classes = batch_only(), class_only()
        batch.temperatures = classes.temperatures = (temperature, )
        parts += 3 * instance(student, teacher).item()
        parts += .5 * batch(student, teacher).item()
        parts += 2 * classes(student, teacher).item()
    loss = MLLDLoss([2, 5], 3, .5, 2)
    assert loss(student, teacher).item() == pytest.approx(parts, rel=1e-9)


def test_mlld_masks_keep_the_confident():
    student, teacher, _ = random_inputs()
    s, t = probabilities(student, teacher)
    kept = np.argsort(-t.max(axis=1))[:3]
    expected = ((t[kept] @ t[kept].T - s[kept] @ s[kept].T)**2).sum() / 6
    assert batch_only(confident_ratio=.5)(student,
                                          teacher).item() == pytest.approx(
                                              expected, rel=1e-9)
    # ceil(.5 * 5) classes.
    kept = np.argsort(-t.sum(axis=0))[:3]
    s, t = s[:, kept], t[:, kept]
    assert class_only(confident_ratio=.5)(
        student, teacher).item() == pytest.approx(
            ((t.T @ t - s.T @ s)**2).sum() / 5, rel=1e-9)


def test_mlld_mask_and_weight_together():
    student, teacher, _ = random_inputs()
    loss = batch_only(confident_ratio=.5)
    kept = teacher.softmax(dim=1).max(dim=1).values.argsort()[3:]
    weight = torch.zeros(6).double()
    weight[kept] = WEIGHT[kept]
    assert loss(
        student, teacher, weight=WEIGHT).item() == pytest.approx(
            batch_only()(student, teacher, weight=weight).item(), rel=1e-9)


def test_ckd_by_hand():
    # Differences to the teacher (0, 0), (3, 4), (0, 8): distances 5, 5, 8.
    teacher = torch.tensor([[1., 2.], [0., 1.], [5., 5.]])
    student = teacher + torch.tensor([[0., 0.], [3., 4.], [0., 8.]])
    assert CKDLoss()(student, teacher).item() == pytest.approx(6)
    # The third is alone in its image: one pair, and still three samples.
    image_index = torch.tensor([0, 0, 1])
    assert CKDLoss()(
        student, teacher,
        image_index=image_index).item() == pytest.approx(10 / 3)


def test_ckd_against_loops():
    student, teacher, _ = random_inputs()
    gap = (student - teacher).detach().numpy()
    w = WEIGHT.numpy()
    count = {0.: 3, 1.: 1, 2.: 2}
    expected = sum(
        math.sqrt(w[i] * w[j]) * np.linalg.norm(gap[i] - gap[j]) /
        (count[IMAGE_INDEX[i].item()] - 1)
        for i, j in pairs(IMAGE_INDEX) if i != j) / 4
    assert CKDLoss()(
        student, teacher, weight=WEIGHT, avg_factor=4,
        image_index=IMAGE_INDEX).item() == pytest.approx(
            expected, rel=1e-9)


def test_ckd_ignores_what_all_samples_share():
    student, teacher, _ = random_inputs()
    shift = torch.tensor([1., -2., 0., 3., 5.])
    assert CKDLoss()(student + shift, teacher).item() == pytest.approx(
        CKDLoss()(student, teacher).item(), rel=1e-9)


def test_close_samples_keep_their_distance_in_float32():
    """The matrix-product form of a distance loses it at logits of 30."""
    student = torch.full((30, 4), 30.)
    student[:, 0] += torch.arange(30) * 1e-3
    teacher = torch.zeros(30, 4)
    # Mean over pairs of |i - j| of 0..29 is 31 / 3.
    assert CKDLoss()(student, teacher).item() == pytest.approx(
        1e-3 * 31 / 3, rel=1e-3)


@pytest.mark.parametrize('arguments, name', [
    (dict(temperatures=[]), 'temperatures'),
    (dict(temperatures=[2, 0]), 'temperatures'),
    (dict(instance_weight=-1), 'instance_weight'),
    (dict(batch_weight=-1), 'batch_weight'),
    (dict(class_weight=-1), 'class_weight'),
    (dict(confident_ratio=0), 'confident_ratio'),
    (dict(confident_ratio=1.1), 'confident_ratio'),
])
def test_bad_values_are_named(arguments, name):
    with pytest.raises(InvalidValueError, match=f'`{name}`'):
        MLLDLoss(**arguments)


def test_temperatures_must_be_a_sequence():
    with pytest.raises(InvalidTypeError, match='`temperatures`.*4'):
        MLLDLoss(temperatures=4)


def test_masked_class_of_one_sample_differs_by_nothing():
    # Of the first sample only class 0 is left; gaps are (0, -) and (0, 1).
    infinity = float('inf')
    student = torch.tensor([[0., -infinity], [0., 1.]])
    teacher = torch.tensor([[0., -infinity], [0., 0.]])
    assert pair_difference_gap(student, teacher).tolist() == [1, 1]
