from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .families import FAMILIES, adapter_for
from .head_adapter import HeadAdapter

__all__ = [
    'ClassificationSamples', 'FAMILIES', 'HeadAdapter', 'Observation',
    'Predictions', 'adapter_for'
]
