"""Allowed values and defaults of the options of ``robustness.py``.

This module imports nothing, so that the help of the command does not import
torch and mmdet.
"""

# Corruptions of Hendrycks and Dietterich (ICLR 2019) in their four groups.
# Michaelis et al. (arXiv 1907.07484) apply them to COCO (COCO-C).
CORRUPTION_GROUPS = dict(
    noise=('gaussian_noise', 'shot_noise', 'impulse_noise'),
    blur=('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    weather=('snow', 'frost', 'fog', 'brightness'),
    digital=('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'))
CORRUPTIONS = sum(CORRUPTION_GROUPS.values(), ())
SEVERITIES = (1, 2, 3, 4, 5)
ATTACKS = ('fgsm', 'pgd')
# Largest changes of a pixel, whose values are in [0, 255].
EPSILONS = (2.0, 4.0, 8.0)
MOST_EPSILON = 255
NONE = 'none'
SPLITS = ('test', 'val', 'train')
NUM_RESAMPLES = 500
# Confidence level of the intervals.
CONFIDENCE = 0.95
