"""Every registered logit loss, and inputs for all of their tests."""
import torch

from tcal_det.models.losses import (AEKTLoss, ATKDLoss, ATSLoss, CKDLoss,
                                    CMKDLoss, DISTLoss, DKDLoss, ISATSLoss,
                                    LogitBinaryKLDivLoss, LogitKLDivLoss,
                                    LogitStandardizationLoss, MLLDLoss,
                                    QualityFocalKDLoss, RPNDistillationLoss,
                                    WTTMLoss)
from tcal_det.models.losses.ats_loss import asymmetric_logits
from tcal_det.models.losses.isats_loss import widest_asymmetric_logits

# What makes each loss for C columns of logits.
LOSSES = {
    'kd':
    lambda classes, **kwargs: LogitKLDivLoss(temperature=4, **kwargs),
    'tcal':
    lambda classes, **kwargs: LogitKLDivLoss(**kwargs),
    'tcal_sigmoid':
    lambda classes, **kwargs: LogitBinaryKLDivLoss(**kwargs),
    'rpn':
    lambda classes, **kwargs: RPNDistillationLoss(**kwargs),
    'qfl':
    lambda classes, **kwargs: QualityFocalKDLoss(**kwargs),
    'qfl_half':
    lambda classes, **kwargs: QualityFocalKDLoss(beta=.5, **kwargs),
    'wttm':
    lambda classes, **kwargs: WTTMLoss(**kwargs),
    'dkd':
    lambda classes, **kwargs: DKDLoss(temperature=2, **kwargs),
    'mlld':
    lambda classes, **kwargs: MLLDLoss(**kwargs),
    'mlld_masked':
    lambda classes, **kwargs: MLLDLoss(
        temperatures=[2.], confident_ratio=.5, **kwargs),
    'dist':
    lambda classes, **kwargs: DISTLoss(temperature=2, **kwargs),
    'cmkd':
    lambda classes, **kwargs: CMKDLoss(**kwargs),
    'aekt':
    lambda classes, **kwargs: AEKTLoss(classes, **kwargs),
    'atkd':
    lambda classes, **kwargs: ATKDLoss(**kwargs),
    'ckd':
    lambda classes, **kwargs: CKDLoss(**kwargs),
    'ls':
    lambda classes, **kwargs: LogitStandardizationLoss(**kwargs),
    'ats':
    lambda classes, **kwargs: ATSLoss(2., 1.5, **kwargs),
    'isats':
    lambda classes, **kwargs: ISATSLoss(2., (1., 1.5, 2.), **kwargs),
}
SIGMOID = {'tcal_sigmoid', 'rpn', 'qfl', 'qfl_half'}
# Compares logits rather than probabilities.
LOGIT_SPACE = {'ckd'}
LABELLED = {'dkd', 'aekt', 'atkd', 'ats', 'isats'}
# The mean logit of a sample is in their formula.
CENTRED = {'ls', 'ats', 'isats'}


def make_loss(name, classes=5, **kwargs):
    return LOSSES[name](classes, **kwargs).double()


def goal(name, teacher, labels):
    """Student logits at which the loss is 0."""
    if name == 'wttm':
        return teacher / 1.5
    if name == 'ats':
        return asymmetric_logits(teacher, labels, 2., 1.5)
    if name == 'isats':
        return widest_asymmetric_logits(teacher, labels, 2., (1., 1.5, 2.))
    return teacher.clone()


def random_inputs(samples=6, classes=5, seed=0, scale=2.):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        scale * torch.randn(
            samples, classes, generator=generator, dtype=torch.float64)
        for _ in range(2))
    labels = torch.randint(classes, (samples, ), generator=generator)
    return student.requires_grad_(), teacher, labels
