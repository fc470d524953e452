"""TCal, KD and TTM are one loss; WTTM is that loss with a weight."""
import math

import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import TemperatureScaling
from tcal_det.models.losses import (LogitBinaryKLDivLoss, LogitKLDivLoss,
                                    WTTMLoss, logit_kl_div)
from tests.test_models.test_losses.loss_cases import random_inputs

TEACHER = torch.tensor([[.75, .25], [.5, .5]], dtype=torch.float64).log()
STUDENT = torch.zeros(2, 2, dtype=torch.float64)


def test_by_hand():
    first = .75 * math.log(.75 / .5) + .25 * math.log(.25 / .5)
    assert logit_kl_div(STUDENT, TEACHER).tolist() == pytest.approx([first, 0])
    assert LogitKLDivLoss()(STUDENT,
                            TEACHER).item() == pytest.approx(first / 2)


def test_two_sided_temperature_by_hand():
    # At T = 2 the teacher's first row is (sqrt 3, 1) / (sqrt 3 + 1).
    softened = math.sqrt(3) / (math.sqrt(3) + 1)
    divergence = (
        softened * math.log(2 * softened) +
        (1 - softened) * math.log(2 * (1 - softened)))
    assert logit_kl_div(
        STUDENT, TEACHER,
        temperature=2).tolist() == pytest.approx([4 * divergence, 0])


@pytest.mark.parametrize('temperature', [1., 1.5, 3.])
def test_tcal_is_ttm(temperature):
    """TTM's target is the teacher's probabilities to the power 1/T."""
    student, teacher, _ = random_inputs()
    power = teacher.softmax(dim=1)**(1 / temperature)
    target = power / power.sum(dim=1, keepdim=True)
    ttm = (target * (target / student.softmax(dim=1)).log()).sum(dim=1)
    tcal = LogitKLDivLoss()(student, TemperatureScaling(temperature)(teacher))
    assert tcal.item() == pytest.approx(ttm.mean().item(), rel=1e-12)

    # And WTTM is TTM with the norm that the power was divided by.
    wttm = WTTMLoss(temperature)(student, teacher)
    assert wttm.item() == pytest.approx(
        (power.sum(dim=1) * ttm).mean().item(), rel=1e-12)


def test_wttm_without_softening_is_plain_kl():
    student, teacher, _ = random_inputs()
    assert WTTMLoss(temperature=1)(student, teacher).item() == pytest.approx(
        LogitKLDivLoss()(student, teacher).item(), rel=1e-12)


def test_binary_by_hand():
    # Second class: equal, no loss; nothing is shared between the classes.
    teacher = torch.tensor([[.75, .2], [.5, .2]], dtype=torch.float64).logit()
    student = torch.tensor([[.5, .2], [.5, .2]], dtype=torch.float64).logit()
    first = .75 * math.log(.75 / .5) + .25 * math.log(.25 / .5)
    assert LogitBinaryKLDivLoss()(student,
                                  teacher).item() == pytest.approx(first / 2)


@pytest.mark.parametrize('loss', [LogitKLDivLoss, WTTMLoss])
def test_bad_temperature_is_named(loss):
    with pytest.raises(InvalidValueError, match='`temperature`.*0'):
        loss(temperature=0)
    with pytest.raises(InvalidTypeError, match='`temperature`.*None'):
        loss(temperature=None)
