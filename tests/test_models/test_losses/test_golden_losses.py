"""Values computed in float64 outside of the code under test."""
import json
import math
import os.path as osp
import re

import pytest
import torch

from tcal_det.models.calibrators import TemperatureScaling
from tcal_det.models.losses import (DISTLoss, DKDLoss, LogitBinaryKLDivLoss,
                                    LogitKLDivLoss, MLLDLoss, WTTMLoss)

GOLDEN = osp.join(
    osp.dirname(__file__), '..', '..', 'data', 'golden', 'losses.json')
with open(GOLDEN, encoding='utf-8') as file:
    CASES = json.load(file)['cases']


def loss_and_calibrator(key):
    """From a key such as 'dkd_a1_b0.25_T1.0'."""
    name = re.match(
        r'(mlld_batch|mlld_class|dist_inter|dist_intra|'
        r'tcal_sigmoid|tcal|wttm|kd|dkd)_', key).group(1)
    temperature = float(re.search(r'T([\d.]+)', key).group(1))
    if name == 'dkd':
        alpha, beta = re.search(r'a([\d.]+)_b([\d.]+)', key).groups()
        return DKDLoss(float(alpha), float(beta), temperature), None
    if name in ('tcal', 'tcal_sigmoid'):
        loss = {'tcal': LogitKLDivLoss, 'tcal_sigmoid': LogitBinaryKLDivLoss}
        return loss[name](), TemperatureScaling(temperature)
    if name in ('wttm', 'kd'):
        loss = {'wttm': WTTMLoss, 'kd': LogitKLDivLoss}
        return loss[name](temperature), None
    family, level = name.split('_')
    if family == 'dist':
        return DISTLoss(
            temperature,
            inter_weight=float(level == 'inter'),
            intra_weight=float(level == 'intra')), None
    return MLLDLoss([temperature],
                    instance_weight=0.,
                    batch_weight=float(level == 'batch'),
                    class_weight=float(level == 'class')), None


@pytest.mark.parametrize('case, key', [(case, key)
                                       for case in range(len(CASES))
                                       for key in CASES[case]['expected']])
def test_golden(case, key):
    case = CASES[case]
    student, teacher = (
        torch.tensor(case[f'{model}_logits'], dtype=torch.float64)
        for model in ('student', 'teacher'))
    loss, calibrator = loss_and_calibrator(key)
    if calibrator is not None:
        teacher = calibrator(teacher)
    value = loss(student, teacher, labels=torch.tensor(case['labels'])).item()
    expected = case['expected'][key]
    if math.isnan(expected):
        # No correlation over a single sample: the term is left out.
        assert len(case['labels']) == 1 and value == 0
    else:
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)
