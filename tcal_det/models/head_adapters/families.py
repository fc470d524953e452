"""Choice of the head adapter of a detector."""
from typing import List, Type

import torch.nn as nn

from tcal_det.errors import InvalidTypeError
from ..detectors import detector_name
from .dense_head_adapter import DenseHeadAdapter
from .head_adapter import HeadAdapter
from .query_head_adapter import QueryHeadAdapter
from .roi_head_adapter import RoIHeadAdapter
from .sparse_roi_head_adapter import SparseRoIHeadAdapter

# The first family that matches is used. The order matters: a two-stage
# detector also has a dense RPN, and detectors with queries have the attribute
# `roi_head` or `bbox_head` of the other families.
FAMILIES: List[Type[HeadAdapter]] = [
    SparseRoIHeadAdapter, QueryHeadAdapter, RoIHeadAdapter, DenseHeadAdapter
]
SEE = 'see docs/reference/methods.md, "Which heads"'


def adapter_for(detector: nn.Module, role: str) -> HeadAdapter:
    """Create the adapter of a detector's head.

    The adapter is chosen by the head, never by the detector's name.

    Args:
        detector (nn.Module): Student or teacher.
        role (str): 'student' or 'teacher', for the message.

    Returns:
        HeadAdapter: Adapter for this detector.

    Raises:
        InvalidTypeError: If no adapter can read the head.
    """
    name = detector_name(detector)
    for family in FAMILIES:
        if family.matches(detector):
            reason = family.reason_against(detector)
            if reason is not None:
                raise InvalidTypeError(f'the {role} {name} {reason}; {SEE}')
            return family(detector)
    raise InvalidTypeError(
        f'the {role} {name} has neither an RoI head (`roi_head`) nor a dense '
        'head or a head with queries (`bbox_head`): choose another '
        f'{role}; {SEE}')
