_base_ = [
    '../_base_/models/faster-rcnn_mobilenetv2_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
