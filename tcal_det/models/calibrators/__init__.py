from .calibrator import Calibrator
from .focal_posterior import FocalPosterior
from .max_logit_scaling import MaxLogitScaling
from .platt_scaling import PlattScaling
from .temperature_scaling import TemperatureScaling
from .vector_scaling import VectorScaling

__all__ = [
    'Calibrator', 'FocalPosterior', 'MaxLogitScaling', 'PlattScaling',
    'TemperatureScaling', 'VectorScaling'
]
