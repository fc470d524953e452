"""Adapter of DETR and the detectors derived from it.

Shapes: L decoder layers; N images; Q queries of an image; C columns of
logits: K classes and, with softmax, background last.
"""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmdet.models.dense_heads import DDQDETRHead, DETRHead, GroundingDINOHead
from mmdet.models.detectors import DetectionTransformer
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .dense_head_specs import LossCall, targets_of_classes
from .hooks import removed_on_exit
from .set_prediction_adapter import (SetPredictionAdapter, image_extents,
                                     with_batch_shape)
from .shared_queries import Queries, query_sharing, reason_against_sharing


class QueryHeadAdapter(SetPredictionAdapter):
    """Adapter of DETR, Conditional, DAB and Deformable DETR, DINO and DDQ.

    The samples are the queries that the loss matches with objects. Denoising
    queries, encoder proposals and the auxiliary dense queries of DDQ are not
    samples. DDQ masks out duplicates from the second decoder layer on; masked
    queries are not samples either.
    """

    num_classes_key = 'bbox_head.num_classes'

    def __init__(self, detector: nn.Module) -> None:
        super().__init__(detector)
        head = self._head
        self.num_classes = head.num_classes
        self.cls_channels = head.cls_out_channels
        self.activation = ('sigmoid'
                           if head.loss_cls.use_sigmoid else 'softmax')

    @property
    def loss_cls(self) -> nn.Module:
        return self._head.loss_cls

    @property
    def _head(self) -> nn.Module:
        return self.detector.bbox_head

    @classmethod
    def matches(cls, detector: nn.Module) -> bool:
        return isinstance(getattr(detector, 'bbox_head', None), DETRHead)

    @classmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        head = detector.bbox_head
        kind = f'has the `bbox_head` {type(head).__name__}'
        if isinstance(head, GroundingDINOHead):
            return f'{kind}, which scores words of a text, not classes'
        if not isinstance(detector, DetectionTransformer):
            return f'{kind}, but is not a DetectionTransformer'
        return None

    @contextmanager
    def observe(self, data_samples: SampleList = ()) -> Iterator[Observation]:
        detector, head = self.detector, self._head
        observation = Observation()
        outputs: Tuple[Tensor, ...] = ()
        calls: List[LossCall] = []

        def record_features(_, args, output):
            observation.features = tuple(output)

        def record_decoder(_, args, kwargs):
            observation.decoder_inputs = kwargs

        def record_outputs(_, args, output):
            nonlocal outputs
            outputs = tuple(output)
            calls.clear()

        def record_call(_, args, kwargs):
            weight = args[2] if len(args) > 2 else kwargs.get('weight')
            calls.append(
                LossCall('loss_cls', args[0], args[1], weight,
                         kwargs.get('avg_factor')))

        pyramid = detector.neck if detector.with_neck else detector.backbone
        handles = [
            pyramid.register_forward_hook(record_features),
            detector.decoder.register_forward_pre_hook(
                record_decoder, with_kwargs=True),
            head.register_forward_hook(record_outputs),
            head.loss_cls.register_forward_pre_hook(
                record_call, with_kwargs=True)
        ]
        with removed_on_exit(handles):
            yield observation
        # The first calls are those of the decoder layers; calls for the
        # encoder and for denoising follow.
        calls = calls[:len(outputs[0])]
        num_images = outputs[0].shape[1]
        observation.groups += [
            self._as_samples(call, layer, num_images)
            for layer, call in enumerate(calls)
        ]
        boxes = self._matching(outputs[1].detach(), calls[0])
        observation.boxes = lambda: [
            _pixels(boxes[group.stage].flatten(0, 1)[group.location],
                    image_extents(data_samples, boxes)[group.image_index])
            for group in observation.groups
        ]

    def _as_samples(self, call: LossCall, layer: int,
                    num_images: int) -> ClassificationSamples:
        device = call.prediction.device
        kept = self._kept(layer, num_images)
        if kept is None:
            rows = torch.arange(len(call.prediction), device=device)
            num_queries = len(rows) // num_images
        else:
            rows = torch.cat(kept).nonzero()[:, 0]
            num_queries = len(kept[0])
        return ClassificationSamples(
            logits=call.prediction,
            image_index=torch.div(rows, num_queries, rounding_mode='floor'),
            location=rows,
            stage=layer,
            avg_factor=call.avg_factor,
            **targets_of_classes([call], self.num_classes)._asdict())

    def _matching(self, outputs: Tensor, first: LossCall) -> Tensor:
        """Drop denoising and dense queries, to shape (L, N, Q, ...)."""
        if isinstance(self._head, DDQDETRHead):
            start, count = self._head.cache_dict['dis_query_info']
            return outputs[:, :, start:start + count]
        # Denoising queries come first.
        return outputs[:, :, -(len(first.prediction) // outputs.shape[1]):]

    def _kept(self, layer: int, num_images: int) -> Optional[List[Tensor]]:
        """Mask the queries of each image that DDQ keeps; None for all."""
        if layer == 0 or not isinstance(self._head, DDQDETRHead):
            return None
        # Read as in DDQ's own loss and predictions: each layer passes on one
        # attention mask per image and attention head.
        cache = self._head.cache_dict
        masks = cache['distinct_query_mask'][layer - 1]
        return [
            masks[image * cache['num_heads']][0] for image in range(num_images)
        ]

    def predict(self, images: Tensor,
                data_samples: SampleList) -> List[Predictions]:
        logits, boxes = self._run(images, data_samples)
        extents = image_extents(data_samples, boxes)
        layers = []
        for layer, (rows, boxes_of_layer) in enumerate(zip(logits, boxes)):
            rows, boxes_of_layer = list(rows), [
                _pixels(*boxes_of_image)
                for boxes_of_image in zip(boxes_of_layer, extents[:, None])
            ]
            kept = self._kept(layer, len(images))
            if kept is not None:
                rows, boxes_of_layer = ([
                    boxes_of_image[mask]
                    for boxes_of_image, mask in zip(values, kept)
                ] for values in (rows, boxes_of_layer))
            layers.append(Predictions(boxes_of_layer, rows, are_unique=True))
        return layers

    def _run(self, images: Tensor,
             data_samples: SampleList) -> Tuple[Tensor, Tensor]:
        """Predict logits and relative boxes in eval, shape (L, N, Q, ...)."""
        detector = self.detector
        hidden = detector.forward_transformer(
            detector.extract_feat(images),
            with_batch_shape(data_samples, images))
        return self._head(**hidden)

    def _last_logits(self, images: Tensor, data_samples: SampleList) -> Tensor:
        return self._run(images, data_samples)[0][-1]

    def reason_against_sharing(self,
                               student: SetPredictionAdapter) -> Optional[str]:
        if query_sharing(self.detector) is None:
            return super().reason_against_sharing(student)
        heads = [
            type(getattr(adapter.detector, 'bbox_head', None)).__name__
            for adapter in (self, student)
        ]
        if heads[0] != heads[1]:
            return (f'do not fit: the teacher has the `bbox_head` {heads[0]} '
                    f'and the student {heads[1]}')
        return reason_against_sharing(self.detector, student.detector)

    def predict_queries(
            self, images: Tensor,
            data_samples: SampleList) -> Tuple[Queries, List[Tensor]]:
        """Run this teacher, and return its queries and their logits.

        Args:
            images (Tensor): Images in this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            tuple[dict[str, Tensor], list[Tensor]]: Queries, for
            :meth:`classify_queries` of a student; logits of each decoder
            layer, shape (N * Q, C).
        """
        names = query_sharing(self.detector).names
        queries: Queries = {}

        def record(_, args, kwargs):
            queries.update({name: kwargs[name] for name in names})

        handle = self.detector.decoder.register_forward_pre_hook(
            record, with_kwargs=True)
        with removed_on_exit([handle]):
            logits, _ = self._run(images, data_samples)
        return queries, [layer.flatten(0, 1) for layer in logits]

    def classify_queries(self, observation: Observation,
                         queries: Queries) -> List[ClassificationSamples]:
        """Classify a teacher's queries with this student's decoder.

        The decoder runs once more, on the encoder memory of the student's
        own loss.

        Args:
            observation (Observation): Data recorded during this student's
                loss.
            queries (dict[str, Tensor]): Queries that :meth:`predict_queries`
                of a teacher returned.

        Returns:
            list[ClassificationSamples]: Samples of each decoder layer, with
            graph and without labels. Their divisor is that of the layer's
            own loss.
        """
        inputs: Dict[str, Any] = dict(observation.decoder_inputs)
        inputs.update(
            query_sharing(self.detector).convert(self.detector, queries))
        if 'self_attn_mask' in inputs:
            # The mask is only needed to separate denoising queries.
            inputs['self_attn_mask'] = None
        hidden_states = self.detector.decoder(**inputs)[0]
        image_index = torch.arange(
            hidden_states.shape[1],
            device=hidden_states.device).repeat_interleave(
                hidden_states.shape[2])
        return [
            ClassificationSamples(
                logits=branch(hidden).flatten(0, 1),
                image_index=image_index,
                location=None,
                stage=layer,
                avg_factor=observation.groups[layer].avg_factor)
            for layer, (branch, hidden) in enumerate(
                zip(self._classifiers(len(hidden_states)), hidden_states))
        ]

    def _classifiers(self, num_layers: int) -> Sequence[nn.Module]:
        """Return the classification layer for each decoder layer."""
        branches = getattr(self._head, 'cls_branches', None)
        return branches or [self._head.fc_cls] * num_layers


def _pixels(boxes: Tensor, extents: Tensor) -> Tensor:
    """Convert relative centres and sizes to corners in pixels.

    The corners are clipped to the image, as mmdet does for its detections.
    """
    corners = bbox_cxcywh_to_xyxy(boxes) * extents
    return corners.clamp(min=0).minimum(extents)
