"""What the commands on teachers can be asked for.

Imports nothing: the commands name these in their help before they import
torch and mmdet.
"""

# Images of a config.
SPLITS = ('val', 'test', 'train')
# RoIs as distillation sees them, or all proposals; a dense head has no
# proposals and classifies the same priors in both.
PROTOCOLS = ('train', 'test')
# By what the head applies to its logits; the first is the default.
CALIBRATORS_BY_ACTIVATION = dict(
    softmax=('TemperatureScaling', 'VectorScaling', 'MaxLogitScaling'),
    sigmoid=('PlattScaling', 'TemperatureScaling', 'FocalPosterior'))
CALIBRATORS = ('TemperatureScaling', 'VectorScaling', 'MaxLogitScaling',
               'PlattScaling', 'FocalPosterior')
# Pairs of a sigmoid head: with a score above a threshold, or all.
SELECTIONS = ('scored', 'all')
# What is smallest at a fitted temperature.
OBJECTIVES = ('nll', 'ece')
# With 81 classes 162 MB of float32, and about 1 GB while they are measured.
MAX_SAMPLES = 500000
NUM_RESAMPLES = 1000
# Seeds of torch are of 64 bits.
LARGEST_SEED = 2**63 - 1
