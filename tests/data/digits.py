# Scenes of digits and their schedule, without a model.
_base_ = [
    '../../configs/_base_/datasets/digits.py',
    '../../configs/_base_/schedules/schedule_small-data.py',
]
