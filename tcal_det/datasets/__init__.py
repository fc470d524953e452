"""Small data sets for demonstrations and benchmarks."""
from .bccd import convert_bccd
from .digit_scenes import compose_scene, write_digit_scenes

__all__ = ['compose_scene', 'convert_bccd', 'write_digit_scenes']
