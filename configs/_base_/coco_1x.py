# COCO with mmdet's 1x schedule: 12 epochs at one image size, 8 GPUs x 2
# images, learning rate 0.02.
_base_ = [
    './coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    './default_runtime.py',
]
