# The baseline student: half the encoder and decoder layers, trained on the
# first 200 scenes only.
_base_ = './dino_r18-half_12e_digits.py'

model = dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2))
train_dataloader = dict(dataset=dict(indices=200))
train_cfg = dict(max_epochs=24, val_interval=8)
