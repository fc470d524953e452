from .calibrator import Calibrator
from .platt_scaling import PlattScaling
from .temperature_scaling import TemperatureScaling
from .vector_scaling import VectorScaling

__all__ = ['Calibrator', 'PlattScaling', 'TemperatureScaling', 'VectorScaling']
