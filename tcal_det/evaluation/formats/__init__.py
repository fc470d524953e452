"""Annotations and detections in other formats than COCO.

The formats are YOLO label folders, Pascal VOC, and result objects of other
libraries.
"""
from .class_names import find_class_names, read_class_names
from .image_sizes import ImageSize, read_image_sizes
from .loading import (find_format, load_annotations_and_results,
                      read_annotations, read_records)
from .pascal_voc import read_voc_annotations, read_voc_results
from .yolo import read_yolo_annotations, read_yolo_results

__all__ = [
    'ImageSize', 'find_class_names', 'find_format',
    'load_annotations_and_results', 'read_annotations', 'read_class_names',
    'read_image_sizes', 'read_records', 'read_voc_annotations',
    'read_voc_results', 'read_yolo_annotations', 'read_yolo_results'
]
