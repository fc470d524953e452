_base_ = [
    '../_base_/models/faster-rcnn_r18_fpn.py',
    '../_base_/coco_ms-180k.py',
]
