# BCCD in five folds, made by benchmarks/study/data.py. The plan names the fold,
# and of its training images those of students or those of teachers.
_base_ = [
    '../../../configs/_base_/datasets/bccd.py',
    '../../../configs/_base_/schedules/schedule_small-data.py',
]

train_pipeline = [
    dict(step, scale=(256, 192)) if step.type == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, scale=(256, 192)) if step.type == 'Resize' else step
    for step in _base_.test_pipeline
]
part = dict(data_root='', data_prefix=dict(img='data/bccd/images/'))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(part, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(part, pipeline=test_pipeline))
test_dataloader = dict(
    num_workers=0, dataset=dict(part, pipeline=test_pipeline))
optim_wrapper = dict(clip_grad=None)
