"""What ``robustness.py`` can be asked for.

Imports nothing: the command names these in its help before it imports torch
and mmdet.
"""

# Hendrycks and Dietterich (ICLR 2019), in their four groups; as COCO-C they
# are those of Michaelis et al. (arXiv 1907.07484).
CORRUPTION_GROUPS = dict(
    noise=('gaussian_noise', 'shot_noise', 'impulse_noise'),
    blur=('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    weather=('snow', 'frost', 'fog', 'brightness'),
    digital=('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'))
CORRUPTIONS = sum(CORRUPTION_GROUPS.values(), ())
SEVERITIES = (1, 2, 3, 4, 5)
ATTACKS = ('fgsm', 'pgd')
# Of 255, the range of a pixel.
EPSILONS = (2.0, 4.0, 8.0)
MOST_EPSILON = 255
NONE = 'none'
SPLITS = ('test', 'val', 'train')
NUM_RESAMPLES = 500
