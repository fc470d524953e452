"""Adapter of RoI heads with a single stage or a cascade of stages.

Shapes: N images; S sampled RoIs of the batch; C columns of logits: K classes
followed by background (no background column for CrossEntropyCustomLoss).
"""
import logging
from contextlib import contextmanager
from typing import (Any, Callable, Dict, Iterator, List, Optional, Sequence,
                    Tuple)

import torch
import torch.nn as nn
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads import (CascadeRoIHead, MultiInstanceRoIHead,
                                    StandardRoIHead)
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import Tensor

from ..logits import at_least_float32
from .bbox_head_columns import (UNORDERED, BBoxHeadColumns,
                                reason_against_bbox_head)
from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .head_adapter import HeadAdapter
from .hooks import removed_on_exit
from .module_calls import ModuleCall
from .observed_stage import ObservedStage
from .roi_samples import (RoICandidates, assign_and_sample,
                          assigned_candidates, boxes_of_deltas, propose,
                          regressed_boxes)
from .rpn_adapter import RPNAdapter


class RoIHeadAdapter(HeadAdapter):
    """Adapter of standard and cascade RoI heads.

    The heads classify with softmax, Seesaw loss or sigmoid, see
    :class:`BBoxHeadColumns`. A group of samples is a stage.
    """

    sample_name = 'RoIs'
    classifies_boxes = True
    num_classes_key = 'roi_head.bbox_head.num_classes'

    def __init__(self, detector: nn.Module) -> None:
        super().__init__(detector)
        bbox_head = self._bbox_heads[0]
        self._columns = BBoxHeadColumns.of(bbox_head)
        self.num_classes = self._columns.num_classes
        self.cls_channels = self._columns.cls_channels
        self.activation = self._columns.activation
        # Whether the student of this teacher has another number of stages.
        self._averages_stages = False
        # Whether the student is a TridentNet with another number of branches.
        self._folds_branches = False

    @property
    def num_stages(self) -> int:
        """Number of stages, 1 for a head that is not a cascade."""
        return len(self._bbox_heads)

    @property
    def num_branch(self) -> int:
        """Number of copies of the batch in a TridentNet's training, else 1."""
        # The detector makes the copies, not the head.
        return getattr(self.detector, 'num_branch', 1)

    @property
    def _repeats(self) -> int:
        """Number of copies of the batch in the detector's current mode."""
        test_branch = getattr(self.detector, 'test_branch_idx', -1)
        if self.detector.training or test_branch == -1:
            return self.num_branch
        return 1

    @property
    def loss_cls(self) -> nn.Module:
        return self._bbox_heads[0].loss_cls

    @property
    def parts(self) -> Dict[str, nn.Module]:
        parts = super().parts
        for index, bbox_head in enumerate(self._bbox_heads):
            parts[f'head.{index}'] = bbox_head
            if hasattr(bbox_head, 'fc_cls'):
                parts[f'classifier.{index}'] = bbox_head.fc_cls
        return parts

    @property
    def _bbox_heads(self) -> Sequence[nn.Module]:
        return _as_stages(self.detector.roi_head.bbox_head)

    @property
    def _stage_weights(self) -> Sequence[float]:
        if not self._is_cascade:
            return [1.0]
        return self.detector.roi_head.stage_loss_weights

    @property
    def _is_cascade(self) -> bool:
        return isinstance(self.detector.roi_head, CascadeRoIHead)

    @classmethod
    def matches(cls, detector: nn.Module) -> bool:
        return getattr(detector, 'roi_head', None) is not None

    @classmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        roi_head = detector.roi_head
        kind = f'has the `roi_head` {type(roi_head).__name__}'
        if isinstance(roi_head, MultiInstanceRoIHead):
            return f'{kind}, which {UNORDERED}'
        if not isinstance(roi_head, (StandardRoIHead, CascadeRoIHead)):
            return (f'{kind}, which is neither a StandardRoIHead nor a '
                    'CascadeRoIHead')
        if getattr(roi_head, 'bbox_head', None) is None:
            return f'{kind} without a `bbox_head`'
        stages = _as_stages(roi_head.bbox_head)
        reasons = map(reason_against_bbox_head, stages)
        reason = next((reason for reason in reasons if reason), None)
        if reason is None and len(set(map(BBoxHeadColumns.of, stages))) > 1:
            reason = (f'{kind} whose stages differ in their classes or in '
                      'the kind of their `loss_cls`: give all stages the same')
        return reason

    @contextmanager
    def observe(self, data_samples: SampleList = ()) -> Iterator[Observation]:
        roi_head = self.detector.roi_head
        observation = Observation()
        handles = []
        stages = [ObservedStage() for _ in self._bbox_heads]
        extractors = _as_stages(roi_head.bbox_roi_extractor)
        for stage, extractor, bbox_head in zip(stages, extractors,
                                               self._bbox_heads):
            handles += [
                extractor.register_forward_pre_hook(stage.record_rois),
                bbox_head.register_forward_hook(stage.record_logits),
                bbox_head.loss_cls.register_forward_pre_hook(
                    stage.record_targets, with_kwargs=True)
            ]
        with removed_on_exit(handles):
            yield observation
        # A stage did not run if the stage before it refined no proposal.
        observation.groups += [
            self._as_samples(stage, index)
            for index, stage in enumerate(stages) if stage.logits is not None
        ]
        observation.features = stages[0].features
        observation.boxes = lambda: [
            group.location[:, 1:] for group in observation.groups
        ]

    def _as_samples(self, stage: ObservedStage,
                    index: int) -> ClassificationSamples:
        num_images = len(stage.features[0]) // self._repeats
        return ClassificationSamples(
            logits=self._columns.as_logits(stage.logits),
            image_index=stage.rois[:, 0].long() % num_images,
            location=stage.rois,
            stage=index,
            group_weight=self._stage_weights[index],
            **stage.targets)

    def prepare_batch(self, images: Tensor,
                      data_samples: SampleList) -> Tensor:
        """Return the images, which need less memory than feature maps."""
        return images

    def classify_groups(
            self, prepared: Tensor,
            groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        features = self.detector.extract_feat(prepared)
        context = self._context(features)
        return [
            self._classify(features, context, group.location, group.stage)
            for group in groups
        ]

    def classify(self, features: Tuple[Tensor], rois: Tensor) -> Tensor:
        """Classify any boxes by the first stage of a cascade, or by all.

        Args:
            features (tuple[Tensor]): Output of ``extract_feat``.
            rois (Tensor): Boxes with the index of their image, shape (S, 5).

        Returns:
            Tensor: Logits, shape (S, C). They are the mean over all stages
            if the student has another number of stages.
        """
        return self._classify(features, self._context(features), rois, stage=0)

    def classify_features(self, inputs: Tuple[Tensor, ...]) -> Tensor:
        """Classify inputs of the bbox head; only without a cascade.

        Args:
            inputs (tuple[Tensor]): Arguments of the bbox head.

        Returns:
            Tensor: Logits with their graph, shape (S, C).
        """
        bbox_head, = self._bbox_heads
        return self._columns.as_logits(bbox_head(*inputs)[0])

    def reason_against_exchange(self, student: HeadAdapter) -> Optional[str]:
        if not isinstance(student, RoIHeadAdapter):
            return super().reason_against_exchange(student)
        if student.num_stages > 1:
            return ('the student is a cascade, in which each stage makes the '
                    'RoIs of the next one')
        if student.num_branch > 1 or self.num_branch > 1:
            return 'one of them repeats each image in several branches'
        if self.reason_against_predicting() is not None:
            return f'the teacher {self.reason_against_predicting()}'
        if any(
                isinstance(module, nn.SyncBatchNorm)
                for module in student.detector.roi_head.modules()):
            # A process that replaces no RoI does not run the head again.
            return ('the RoI head of the student has SyncBN, which needs the '
                    'same number of runs in all processes')
        return None

    def propose(self, features: Tuple[Tensor],
                data_samples: SampleList) -> InstanceList:
        """Compute the proposals of this detector's RPN, after its NMS.

        Args:
            features (tuple[Tensor]): Output of ``extract_feat``.
            data_samples (list[DetDataSample]): Data samples of the images.

        Returns:
            list[InstanceData]: Proposals of each image, with ``bboxes`` and
            ``scores``.
        """
        return propose(self.detector, features, data_samples, 'test')

    def candidates(self, features: Tuple[Tensor], proposals: InstanceList,
                   data_samples: SampleList) -> List[RoICandidates]:
        """Label proposals as this detector does; only without a cascade.

        Args:
            features (tuple[Tensor]): Output of ``extract_feat``.
            proposals (list[InstanceData]): Proposals of each image, by any
                detector, with ``bboxes`` and ``scores``; ``bboxes`` is
                renamed to ``priors``.
            data_samples (list[DetDataSample]): Data samples of the images,
                with ``gt_instances``.

        Returns:
            list[RoICandidates]: Labelled proposals of each image.
        """
        return assigned_candidates(self.detector.roi_head, self._train_cfg(0),
                                   features, proposals, data_samples)

    def _classify(self, features: Tuple[Tensor], context: Dict[str, Any],
                  rois: Tensor, stage: int) -> Tensor:
        if len(rois) == 0:
            # Some heads cannot run without an RoI.
            return rois.new_zeros(0, self.cls_channels)
        if self._folds_branches:
            rois = torch.cat([rois[:, :1] % features[0].shape[0], rois[:, 1:]],
                             dim=1)
        stages = [min(stage, self.num_stages - 1)]
        if self._averages_stages:
            # As a cascade does for its own detections, but without refining
            # the RoIs.
            stages = range(self.num_stages)
        logits = [
            self._run_head(features, context, rois, stage)['cls_score']
            for stage in stages
        ]
        return self._mean_columns(logits)

    def _mean_columns(self, logits: Sequence[Tensor]) -> Tensor:
        """Average the logits of stages, as mmdet's cascades do in testing."""
        return self._columns.as_logits(
            sum(map(at_least_float32, logits)) / len(logits))

    def _run_head(self, features: Tuple[Tensor], context: Dict[str, Any],
                  rois: Tensor, stage: int) -> Dict[str, Tensor]:
        # This method combines extractors, shared head and bbox head; the
        # subclasses of the RoI head override it.
        forward = self.detector.roi_head._bbox_forward
        if not self._is_cascade:
            return forward(features, rois)
        return forward(stage, features, rois, **context)

    def _context(self, features: Tuple[Tensor]) -> Dict[str, Any]:
        """Compute the features that HTC and SCNet add to those of an RoI."""
        roi_head = self.detector.roi_head
        context = {}
        if getattr(roi_head, 'with_semantic', False):
            context['semantic_feat'] = roi_head.semantic_head(features)[1]
        if getattr(roi_head, 'with_glbctx', False):
            context['glbctx_feat'] = roi_head.glbctx_head(features)[1]
        return context

    def probe(self) -> Tensor:
        weight = next(self.detector.parameters())
        images = torch.linspace(-2, 2, 3 * 128 * 128).view(1, 3, 128, 128)
        # RoIs of several sizes, so that each level of a pyramid is used.
        rois = torch.tensor([[0, 0, 0, side, side]
                             for side in (32.0, 128.0, 256.0, 512.0)])
        features = self.detector.extract_feat(images.to(weight))
        context = self._context(features)
        return torch.cat([
            self._classify(features, context, rois.to(weight),
                           stage).flatten() for stage in range(self.num_stages)
        ])

    def reason_against_student(self, student: HeadAdapter) -> Optional[str]:
        num_stages, student_stages = self.num_stages, student.num_stages
        if 1 in (num_stages, student_stages) or num_stages == student_stages:
            return None
        return ('must have the same number of stages as the student, or one '
                f'of them a single stage, but the teacher has {num_stages} '
                f'and the student {student_stages}: choose another teacher')

    def prepare_as_teacher(self, student: HeadAdapter) -> None:
        roi_head = self.detector.roi_head
        self._averages_stages = student.num_stages != self.num_stages
        if isinstance(student, RoIHeadAdapter):
            self._prepare_for_rois(student)
        if next(self.detector.parameters()).device.type != 'cpu':
            return
        for module in roi_head.modules():
            # torchvision's kernel gives the same result as mmcv's, and needs
            # a third of the time on a CPU.
            if isinstance(module, RoIAlign) and module.pool_mode == 'avg':
                module.use_torchvision = True

    def _prepare_for_rois(self, student: 'RoIHeadAdapter') -> None:
        student.warn_of_softmax_scores()
        if student.num_branch > 1:
            self._folds_branches = self.num_branch != student.num_branch
            for module in self.detector.modules():
                if hasattr(module, 'test_branch_idx'):
                    # Runs all branches, which the student trains.
                    module.test_branch_idx = -1

    def warn_of_softmax_scores(self) -> None:
        """Warn that detections have other scores than those distilled.

        mmdet's bbox heads compute the scores of their detections with
        softmax, also if the logits were trained with sigmoid, unless the loss
        has its own activation.
        """
        loss_cls = self._bbox_heads[0].loss_cls
        if self.activation == 'sigmoid' and not getattr(
                loss_cls, 'custom_activation', False):
            print_log(
                f'The student {self.name} learns its classes with sigmoid '
                f'({type(loss_cls).__name__}), and the distillation uses '
                'sigmoid too, but mmdet computes the scores of detections as '
                'the softmax of these logits: the scores of the detections '
                'are not those that are calibrated',
                'current',
                level=logging.WARNING)

    def reason_against_predicting(self) -> Optional[str]:
        if self.detector.with_rpn:
            return None
        return 'does not propose boxes, as it has no RPN'

    def predict(self, images: Tensor,
                data_samples: SampleList) -> List[Predictions]:
        features = self.detector.extract_feat(images)
        num_images = len(data_samples)
        data_samples = data_samples * self._repeats
        metas = [sample.metainfo for sample in data_samples]
        context = self._context(features)
        proposals = propose(self.detector, features, data_samples, 'test')
        rois = bbox2roi([proposal.bboxes for proposal in proposals])
        rows = rois.new_zeros(0, self.cls_channels)
        logits: List[Tensor] = []
        for stage, bbox_head in enumerate(self._bbox_heads):
            if len(rois) == 0:
                break
            outputs = self._run_head(features, context, rois, stage)
            logits.append(outputs['cls_score'])
            is_last = stage == self.num_stages - 1
            rows = self._mean_columns(logits if is_last else logits[-1:])
            boxes = regressed_boxes(bbox_head, rois,
                                    rows[:, :self.num_classes].argmax(dim=1),
                                    outputs['bbox_pred'], metas)
            rois = torch.cat([rois[:, :1], boxes], dim=1)
        image_index = rois[:, 0].long() % num_images
        of_images = [image_index == image for image in range(num_images)]
        return [
            Predictions([rois[chosen, 1:] for chosen in of_images],
                        [rows[chosen] for chosen in of_images])
        ]

    def reason_against_regressing(self) -> Optional[str]:
        for bbox_head in self._bbox_heads:
            if not getattr(bbox_head, 'with_reg', False):
                return (f'has the `bbox_head` {type(bbox_head).__name__}, '
                        'which does not regress the corners of boxes')
        return None

    def regress(self, calls: Dict[str, ModuleCall],
                groups: Sequence[ClassificationSamples],
                labels: Sequence[Tensor]) -> List[Tensor]:
        boxes = []
        for group, chosen in zip(groups, labels):
            call = calls.get(f'head.{group.stage}')
            if call is None:
                # Some heads do not run without an RoI.
                boxes.append(group.location.new_zeros(0, 4))
                continue
            boxes.append(
                boxes_of_deltas(self._bbox_heads[group.stage],
                                group.location[:, 1:], chosen, call.output[1]))
        return boxes

    def reason_against_scoring(self) -> Optional[str]:
        reason = RPNAdapter.reason_against(self.detector)
        return reason and (f'{reason}, so that there is no objectness to '
                           'score the positions of its feature maps')

    def score_maps(self, maps: Sequence[Tensor], call: Optional[ModuleCall],
                   calibrate: Callable[[Tensor], Tensor]) -> List[Tensor]:
        """Score positions by the RPN's objectness, which is not calibrated."""
        return RPNAdapter(self.detector).score_maps(maps, None, nn.Identity())

    def reason_against_labelling(self) -> Optional[str]:
        detector = self.detector
        if not detector.with_rpn:
            return 'must propose its own RoIs, but has no RPN'
        if detector.train_cfg is None or detector.roi_head.train_cfg is None:
            return ('must have `model.train_cfg` in its config, which defines '
                    'how labels are assigned, but has none')
        return None

    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        features = self.detector.extract_feat(images)
        num_images = len(data_samples)
        data_samples = data_samples * self._repeats
        context = self._context(features)
        proposals = propose(self.detector, features, data_samples, protocol)
        metas = [sample.metainfo for sample in data_samples]
        groups = []
        for stage, bbox_head in enumerate(self._bbox_heads):
            results = assign_and_sample(self.detector.roi_head,
                                        stage if self._is_cascade else None,
                                        features, proposals, data_samples,
                                        protocol)
            rois = bbox2roi([result.priors for result in results])
            outputs = self._run_head(features, context, rois, stage)
            # Targets without the loss: the losses of some heads count their
            # samples.
            targets = bbox_head.get_targets(results, self._train_cfg(stage))
            groups.append(
                ClassificationSamples(
                    logits=self._columns.as_logits(outputs['cls_score']),
                    image_index=rois[:, 0].long() % num_images,
                    location=rois,
                    stage=stage,
                    labels=targets[0],
                    weight=targets[1],
                    group_weight=self._stage_weights[stage]))
            if stage + 1 < self.num_stages:
                outputs.update(rois=rois, bbox_targets=targets)
                proposals = bbox_head.refine_bboxes(results, outputs, metas)
                if proposals is None:
                    break
        return groups

    def _train_cfg(self, stage: int) -> ConfigDict:
        train_cfg = self.detector.roi_head.train_cfg
        return train_cfg[stage] if self._is_cascade else train_cfg


def _as_stages(modules: nn.Module) -> Sequence[nn.Module]:
    return modules if isinstance(modules, nn.ModuleList) else [modules]
