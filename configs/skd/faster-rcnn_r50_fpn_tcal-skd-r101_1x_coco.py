# At most half of the 512 RoIs of an image are the student's; not tuned.
_base_ = '../tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py'

model = dict(teacher=dict(sampling=dict(type='SpeculativeSamples', top_k=256)))
