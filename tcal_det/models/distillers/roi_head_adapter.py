"""The one place that knows how an RoI classification head is called.

Shapes: N images, R sampled RoIs of the batch, C = K + 1 classes with
background last.
"""
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, Optional

import torch.nn as nn
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads import StandardRoIHead, TridentRoIHead
from mmdet.models.roi_heads.bbox_heads import MultiInstanceBBoxHead, SABLHead
from torch import Tensor

from tcal_det.errors import InvalidTypeError
from ..detectors import detector_name

SUPPORTED_HEADS = (
    'a StandardRoIHead or a subclass of it (Faster R-CNN, Mask R-CNN; not '
    'TridentNet, CrowdDet or SABL) whose bbox_head classifies with softmax '
    '(loss_cls with use_sigmoid=False); see README.md, "In your own mmdet '
    'project"')
# TridentNet's and CrowdDet's have more RoIs or logits than images and boxes
# account for; SABL's finds boxes by buckets, and classifies apart from that.
UNREADABLE_HEADS = (TridentRoIHead, MultiInstanceBBoxHead, SABLHead)


@dataclass
class SampledRoIs:
    """What the student's classification loss saw in one training step.

    Attributes:
        rois (Tensor): Image index and box (x1, y1, x2, y2) in the
            coordinates of the padded batch, shape (R, 5).
        student_logits (Tensor): With their graph, shape (R, C).
        labels (Tensor, optional): Assigned classes, K for background, shape
            (R,); None where mmdet computes no loss, i.e. R = 0.
        weight (Tensor, optional): Weight of each RoI in the student's loss,
            shape (R,); None where R = 0.
        avg_factor (float, optional): Divisor of the student's loss; None
            where R = 0.
    """
    rois: Optional[Tensor] = None
    student_logits: Optional[Tensor] = None
    labels: Optional[Tensor] = None
    weight: Optional[Tensor] = None
    avg_factor: Optional[float] = None


class SoftmaxRoIHeadAdapter:
    """Reads the student's, and runs the teacher's, softmax RoI head."""

    head_activation = 'softmax'

    @staticmethod
    def check(detector: nn.Module, role: str) -> None:
        """Refuse a detector whose head this adapter cannot read.

        Args:
            detector (nn.Module): Student or teacher.
            role (str): 'student' or 'teacher', for the message.

        Raises:
            InvalidTypeError: If it has no softmax RoI classification head.
        """
        name = detector_name(detector)
        roi_head = getattr(detector, 'roi_head', None)
        if roi_head is None:
            raise InvalidTypeError(
                f'the {role} must have an RoI classification head, but '
                f'{name} has no `roi_head`; supported so far: '
                f'{SUPPORTED_HEADS}')
        if (not isinstance(roi_head, StandardRoIHead)
                or isinstance(roi_head, UNREADABLE_HEADS)):
            raise InvalidTypeError(
                f'the {role} {name} has the `roi_head` '
                f'{type(roi_head).__name__}; supported so far: '
                f'{SUPPORTED_HEADS}')
        bbox_head = getattr(roi_head, 'bbox_head', None)
        loss_cls = getattr(bbox_head, 'loss_cls', None)
        if (isinstance(bbox_head, UNREADABLE_HEADS) or loss_cls is None
                or not getattr(bbox_head, 'with_cls', False)):
            raise InvalidTypeError(
                f'the {role} {name} has the `bbox_head` '
                f'{type(bbox_head).__name__}; supported so far: '
                f'{SUPPORTED_HEADS}')
        if (getattr(loss_cls, 'use_sigmoid', False)
                or getattr(bbox_head, 'custom_cls_channels', False)):
            raise InvalidTypeError(
                f'the {role} {name} has the `bbox_head` '
                f'{type(bbox_head).__name__} with {type(loss_cls).__name__}, '
                f'which is not softmax; supported so far: {SUPPORTED_HEADS}')

    @staticmethod
    def num_classes(detector: nn.Module) -> int:
        """K, without background."""
        return detector.roi_head.bbox_head.num_classes

    @staticmethod
    @contextmanager
    def observe(student: nn.Module) -> Iterator[SampledRoIs]:
        """Record what the student's own ``loss`` sends through its head.

        Public forward hooks, removed on leaving: no method is replaced,
        nothing is computed again, nothing outlives the step.

        Yields:
            SampledRoIs: Filled while the student's loss runs.
        """
        roi_head = student.roi_head
        samples = SampledRoIs()
        extracted = []

        def record_rois(_, args):
            extracted[:] = [args[1]]

        # The last call of the head, and of its loss, is the training's: OHEM
        # runs both before, on all RoIs, to choose among them. Extractors may
        # be called afterwards, by a mask branch.
        def record_logits(_, args, output):
            samples.rois, = extracted
            samples.student_logits = output[0]
            samples.labels = samples.weight = samples.avg_factor = None

        def record_targets(_, args, kwargs):
            # Without weights it is PISA, which weighs by the loss it sees.
            if len(args) == 3:
                _, samples.labels, samples.weight = args
                samples.avg_factor = kwargs.get('avg_factor')

        handles = (
            roi_head.bbox_roi_extractor.register_forward_pre_hook(record_rois),
            roi_head.bbox_head.register_forward_hook(record_logits),
            roi_head.bbox_head.loss_cls.register_forward_pre_hook(
                record_targets, with_kwargs=True))
        try:
            yield samples
        finally:
            for handle in handles:
                handle.remove()

    @staticmethod
    def classify(teacher: nn.Module, images: Tensor, rois: Tensor) -> Tensor:
        """Run backbone, neck and the classification head on given RoIs.

        No RPN, no assignment, no NMS.

        Args:
            teacher (nn.Module): In eval.
            images (Tensor): In the teacher's normalisation, (N, 3, H, W).
            rois (Tensor): Shape (R, 5).

        Returns:
            Tensor: Logits, shape (R, C).
        """
        features = teacher.extract_feat(images)
        # StandardRoIHead's own composition of extractor, shared head and
        # bbox head, which its subclasses override (Double-Head R-CNN).
        return teacher.roi_head._bbox_forward(features, rois)['cls_score']

    @staticmethod
    def use_torchvision_roi_align(teacher: nn.Module) -> None:
        """Let torchvision pool the RoIs.

        Its kernel computes what mmcv's does, on the CPU in a third of the
        time.

        Args:
            teacher (nn.Module): Is changed.
        """
        for module in teacher.roi_head.modules():
            if isinstance(module, RoIAlign) and module.pool_mode == 'avg':
                module.use_torchvision = True
