# BCCD in five folds, made by benchmarks/study/data.py. The plan names the fold,
# and of its training images those of students or those of teachers.
_base_ = '../../../configs/_base_/bccd.py'

train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0)
optim_wrapper = dict(clip_grad=None)
