# mmdet has no 1x schedule for this detector: this is mmdet's schedule, 24
# epochs with 8 x 2 images. Calibration is not measured: LVIS does not annotate
# all classes of an image.
_base_ = ('mmdet::seesaw_loss/'
          'mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py')

default_hooks = dict(checkpoint=dict(type='tcal_det.AtomicCheckpointHook'))
