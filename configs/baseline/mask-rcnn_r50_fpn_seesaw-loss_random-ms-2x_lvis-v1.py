# mmdet has no 1x schedule of this detector: this is its own, 24 epochs of
# 8 x 2 images. Calibration is not measured: LVIS does not annotate all classes
# of an image.
_base_ = ('mmdet::seesaw_loss/'
          'mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py')

default_hooks = dict(checkpoint=dict(type='tcal_det.AtomicCheckpointHook'))
