"""Table of the term for each kind of loss."""
from typing import Dict, Type

import torch.nn as nn

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ...losses import (BoxDistillationLoss, FeatureLoss, IGDMLoss, KDIGALoss,
                       LocalizationDistillationLoss, LogitLoss,
                       PretrainingStateLoss, RPNDistillationLoss)
from .box_term import BoxTerm
from .feature_term import FeatureTerm
from .localization_term import LocalizationTerm
from .logit_term import LogitTerm
from .perturbed_term import PerturbedTerm
from .roi_terms import GradientTerm, StateTerm
from .rpn_term import RPNTerm
from .term import Term

# Terms by class of the loss; the row of the nearest base class is used.
TERMS: Dict[type, Type[Term]] = {
    BoxDistillationLoss: BoxTerm,
    FeatureLoss: FeatureTerm,
    IGDMLoss: PerturbedTerm,
    KDIGALoss: GradientTerm,
    LocalizationDistillationLoss: LocalizationTerm,
    LogitLoss: LogitTerm,
    PretrainingStateLoss: StateTerm,
    RPNDistillationLoss: RPNTerm,
}


def term_of(name: str, loss: nn.Module, student: HeadAdapter) -> Term:
    """Create the term of a loss.

    Args:
        name (str): Key of the loss in ``distill_losses``.
        loss (nn.Module): The loss.
        student (HeadAdapter): Adapter of the student.

    Returns:
        Term: Term of the loss.

    Raises:
        InvalidValueError: If the loss is not made for this student.
    """
    kinds = (TERMS[cls] for cls in type(loss).__mro__ if cls in TERMS)
    # A user's own loss with the signature of a LogitLoss needs no base class.
    return next(kinds, LogitTerm)(name, loss, student)


def check_mixture(term: Term) -> None:
    """Refuse a loss that names no teacher, but cannot use a mixture.

    Args:
        term (Term): Term of the loss.

    Raises:
        InvalidValueError: If the loss must name a teacher.
    """
    if not term.takes_mixture:
        raise InvalidValueError(
            f'`distill_losses.{term.name}` must name one of the teachers, as '
            'only logits can be mixed, but has no key `teacher`: add it, '
            "teacher='NAME'")
