"""Options of the commands that measure teachers.

This module imports nothing: the commands show these options in their help
before they import torch and mmdet.
"""

# Dataset splits of a config.
SPLITS = ('val', 'test', 'train')
# 'train': the RoIs that distillation samples; 'test': all proposals. A dense
# head has no proposals and classifies the same priors in both.
PROTOCOLS = ('train', 'test')
# Calibrators by the activation that the head applies to its logits; the first
# of each is the default.
CALIBRATORS_BY_ACTIVATION = dict(
    softmax=('TemperatureScaling', 'VectorScaling', 'MaxLogitScaling'),
    sigmoid=('PlattScaling', 'TemperatureScaling', 'FocalPosterior'))
CALIBRATORS = ('TemperatureScaling', 'VectorScaling', 'MaxLogitScaling',
               'PlattScaling', 'FocalPosterior')
# (prior, class) pairs of a sigmoid head that are measured: those with a score
# above a threshold, or all.
SELECTIONS = ('scored', 'all')
# Quantity that a fitted temperature minimises.
OBJECTIVES = ('nll', 'ece')
# With 81 classes: 162 MB of float32, and about 1 GB during the measurement.
MAX_SAMPLES = 500000
NUM_RESAMPLES = 1000
# torch's seeds are signed 64-bit numbers.
LARGEST_SEED = 2**63 - 1
