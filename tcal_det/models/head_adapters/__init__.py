from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .families import FAMILIES, adapter_for
from .head_adapter import HeadAdapter
from .module_calls import ModuleCall, recorded_calls
from .roi_samples import RoICandidates
from .rpn_adapter import RPNAdapter

__all__ = [
    'ClassificationSamples', 'FAMILIES', 'HeadAdapter', 'ModuleCall',
    'Observation', 'Predictions', 'RPNAdapter', 'RoICandidates', 'adapter_for',
    'recorded_calls'
]
