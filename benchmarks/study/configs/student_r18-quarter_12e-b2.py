# A pilot: batches of 2, so twice as many steps.
_base_ = './student_r18-quarter_12e.py'

train_dataloader = dict(batch_size=2)
