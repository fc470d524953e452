"""Which adapter serves a detector."""
from typing import List, Type

import torch.nn as nn

from tcal_det.errors import InvalidTypeError
from ..detectors import detector_name
from .dense_head_adapter import DenseHeadAdapter
from .head_adapter import HeadAdapter
from .query_head_adapter import QueryHeadAdapter
from .roi_head_adapter import RoIHeadAdapter
from .sparse_roi_head_adapter import SparseRoIHeadAdapter

# The first that matches is taken: a two-stage detector has a dense RPN too,
# and queries are found where others have RoIs or a dense head.
FAMILIES: List[Type[HeadAdapter]] = [
    SparseRoIHeadAdapter, QueryHeadAdapter, RoIHeadAdapter, DenseHeadAdapter
]
SEE = 'see docs/methods.md, "Which heads"'


def adapter_for(detector: nn.Module, role: str) -> HeadAdapter:
    """The adapter of a detector's head.

    Chosen by the head, never by the detector's name.

    Args:
        detector (nn.Module): Student or teacher.
        role (str): 'student' or 'teacher', for the message.

    Returns:
        HeadAdapter: One for this detector.

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
        f'head or one with queries (`bbox_head`) that can be read: choose '
        f'another {role}; {SEE}')
