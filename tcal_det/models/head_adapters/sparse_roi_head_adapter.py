"""Adapter of Sparse R-CNN and QueryInst, whose queries have one RoI each.

Shapes: N images; Q queries of an image; C columns of logits: K classes and,
with softmax, background last.
"""
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional

import torch
import torch.nn as nn
from mmdet.models.roi_heads import DIIHead, SparseRoIHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .hooks import removed_on_exit
from .set_prediction_adapter import SetPredictionAdapter


class SparseRoIHeadAdapter(SetPredictionAdapter):
    """Adapter of RoI heads whose stages refine a fixed set of queries.

    A stage corresponds to a decoder layer of other detectors with queries.
    RoIs of another detector cannot be classified, because each stage also
    needs the features of the query of each RoI.
    """

    num_classes_key = 'roi_head.bbox_head.num_classes'

    def __init__(self, detector: nn.Module) -> None:
        super().__init__(detector)
        bbox_head = self._bbox_heads[0]
        self.num_classes = bbox_head.num_classes
        self.activation = _activation(bbox_head)
        self.cls_channels = bbox_head.fc_cls.out_features

    @property
    def loss_cls(self) -> nn.Module:
        return self._bbox_heads[0].loss_cls

    @property
    def _bbox_heads(self) -> nn.ModuleList:
        return self.detector.roi_head.bbox_head

    @classmethod
    def matches(cls, detector: nn.Module) -> bool:
        return isinstance(getattr(detector, 'roi_head', None), SparseRoIHead)

    @classmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        roi_head = detector.roi_head
        kind = f'has the `roi_head` {type(roi_head).__name__}'
        for bbox_head in roi_head.bbox_head:
            if not isinstance(bbox_head, DIIHead):
                return (f'{kind} with the `bbox_head` '
                        f'{type(bbox_head).__name__}, which is not a DIIHead')
        columns = {(bbox_head.num_classes, _activation(bbox_head))
                   for bbox_head in roi_head.bbox_head}
        if len(columns) > 1:
            return (f'{kind} whose stages differ in their classes or in the '
                    'kind of their `loss_cls`: give all stages the same')
        return None

    @contextmanager
    def observe(self, data_samples: SampleList = ()) -> Iterator[Observation]:
        roi_head = self.detector.roi_head
        observation = Observation()
        stages = [_ObservedStage() for _ in self._bbox_heads]
        handles = []
        for stage, extractor, bbox_head in zip(stages,
                                               roi_head.bbox_roi_extractor,
                                               self._bbox_heads):
            handles += [
                extractor.register_forward_pre_hook(stage.record_rois),
                bbox_head.register_forward_hook(stage.record_outputs),
                bbox_head.loss_cls.register_forward_pre_hook(
                    stage.record_targets, with_kwargs=True)
            ]
        with removed_on_exit(handles):
            yield observation
        observation.features = stages[0].features
        observation.groups += [
            ClassificationSamples(
                image_index=stage.rois[:, 0].long(),
                location=stage.rois,
                stage=index,
                group_weight=weight,
                **stage.samples)
            for index, (
                stage,
                weight) in enumerate(zip(stages, roi_head.stage_loss_weights))
        ]
        observation.boxes = lambda: [
            self._refined(index, stage, data_samples)
            for index, stage in enumerate(stages)
        ]

    @torch.no_grad()
    def _refined(self, index: int, stage: '_ObservedStage',
                 data_samples: SampleList) -> Tensor:
        """Decode the boxes that a stage predicts, shape (N * Q, 4)."""
        rois = stage.rois[:, 1:].view(len(data_samples), -1, 4)
        return torch.cat([
            # The boxes are the same for all classes: no label is needed.
            self._bbox_heads[index].regress_by_class(boxes, None, deltas,
                                                     sample.metainfo)
            for boxes, deltas, sample in zip(rois, stage.deltas, data_samples)
        ])

    def predict(self, images: Tensor,
                data_samples: SampleList) -> List[Predictions]:
        return [
            Predictions(
                results['detached_proposals'],
                list(results['cls_score']),
                are_unique=True)
            for results in self._run(images, data_samples)
        ]

    def _run(self, images: Tensor, data_samples: SampleList) -> List[dict]:
        """Run all stages in eval mode, and return the output of each."""
        detector = self.detector
        features = detector.extract_feat(images)
        metas = [sample.metainfo for sample in data_samples]
        proposals = detector.rpn_head.predict(features, data_samples)
        queries = torch.stack([proposal.features for proposal in proposals])
        boxes = [proposal.bboxes for proposal in proposals]
        stages = []
        for stage in range(len(self._bbox_heads)):
            # This method combines extractor, head and decoding; the
            # subclasses of the RoI head override it.
            results = detector.roi_head._bbox_forward(stage, features,
                                                      bbox2roi(boxes), queries,
                                                      metas)
            queries, boxes = (results['object_feats'],
                              results['detached_proposals'])
            stages.append(results)
        return stages

    def _last_logits(self, images: Tensor, data_samples: SampleList) -> Tensor:
        return self._run(images, data_samples)[-1]['cls_score']


class _ObservedStage:
    """Hooks on one stage, and the data that they record.

    A mask branch that shares the extractor calls it again afterwards.
    """

    def __init__(self) -> None:
        self.features: tuple = ()
        self.rois: Optional[Tensor] = None
        self.deltas: Optional[Tensor] = None
        self.samples: dict = {}
        self._extracted: tuple = ()

    def record_rois(self, _: nn.Module, args: tuple) -> None:
        self._extracted = args

    def record_outputs(self, _: nn.Module, args: tuple, output: tuple) -> None:
        self.features, self.rois = self._extracted[:2]
        self.deltas = output[1].detach()

    def record_targets(self, _: nn.Module, args: tuple, kwargs: Any) -> None:
        # The mean number of objects per rank. Without any object the head's
        # own loss becomes huge; a divisor of at least 1, as heads with anchors
        # use, prevents this.
        self.samples = dict(
            logits=args[0],
            labels=args[1],
            weight=args[2],
            avg_factor=kwargs['avg_factor'].clamp(min=1))


def _activation(bbox_head: nn.Module) -> str:
    return 'sigmoid' if bbox_head.loss_cls.use_sigmoid else 'softmax'
