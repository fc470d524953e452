from .classification_samples import ClassificationSamples, Observation
from .families import FAMILIES, adapter_for, check_pair
from .head_adapter import HeadAdapter

__all__ = [
    'ClassificationSamples', 'FAMILIES', 'HeadAdapter', 'Observation',
    'adapter_for', 'check_pair'
]
