# The student of the comparison: a quarter of the width, a tenth of the scenes,
# batches of 2 at a learning rate that the pilots found better than less.
_base_ = './student_r18-quarter_12e-b2.py'

optim_wrapper = dict(optimizer=dict(lr=0.002))
