# At most half of the 64 RoIs of an image are the student's.
_base_ = './faster-rcnn_r18-quarter_fpn_tcal-r18-half_24e_digits.py'

model = dict(teacher=dict(sampling=dict(type='SpeculativeSamples', top_k=32)))
