from .calibrator import Calibrator
from .focal_posterior import FocalPosterior
from .platt_scaling import PlattScaling
from .temperature_scaling import TemperatureScaling
from .vector_scaling import VectorScaling

__all__ = [
    'Calibrator', 'FocalPosterior', 'PlattScaling', 'TemperatureScaling',
    'VectorScaling'
]
