# Scenes of digits, 128 x 128: 2000 / 300 / 2600, made by benchmarks/study/data.py.
# The first 600 scenes of test served the study of 12 epochs: the other 2000 are
# tested here.
_base_ = [
    '../../../configs/_base_/datasets/digits.py',
    '../../../configs/_base_/schedules/schedule_small-data.py',
]

data_root = 'data/study_digits/'
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = dict(
    num_workers=0, dataset=dict(data_root=data_root, indices=-2000))
# Clipping would hold back the arms with the larger losses only.
optim_wrapper = dict(clip_grad=None)
