"""RoI classification heads: of one stage, or a cascade of them.

Shapes: N images, S sampled RoIs of the batch, C columns of logits, with
background last.
"""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmcv.ops import RoIAlign
from mmdet.models.losses import SeesawLoss
from mmdet.models.roi_heads import (CascadeRoIHead, MultiInstanceRoIHead,
                                    SparseRoIHead, StandardRoIHead)
from mmdet.models.roi_heads.bbox_heads import MultiInstanceBBoxHead
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from torch import Tensor

from .classification_samples import ClassificationSamples, Observation
from .head_adapter import HeadAdapter
from .hooks import removed_on_leaving

UNORDERED = (
    'predicts a set of objects for each RoI, and its loss chooses their '
    'order: rows of teacher and student cannot be paired')


class RoIHeadAdapter(HeadAdapter):
    """Standard and cascade RoI heads with softmax, Seesaw or sigmoid.

    A group of samples is a stage. The columns of a Seesaw head (K classes
    and 2 of objectness) become the K + 1 whose softmax are its
    probabilities. A sigmoid RoI head of mmdet has K + 1 columns too.
    """

    sample_name = 'RoIs'

    def __init__(self, detector: nn.Module) -> None:
        super().__init__(detector)
        bbox_head = self._bbox_heads[0]
        self.num_classes = bbox_head.num_classes
        self.cls_channels = self.num_classes + 1
        self.activation = _activation(bbox_head)
        self.num_classes_key = 'roi_head.bbox_head.num_classes'
        # Whether this is the teacher of a student with one stage.
        self._averages_stages = False
        # Whether it is that of a TridentNet with more branches than it has.
        self._folds_branches = False

    @property
    def num_stages(self) -> int:
        """Number of stages, 1 for a head that is not a cascade."""
        return len(self._bbox_heads)

    @property
    def num_branch(self) -> int:
        """How often TridentNet repeats the batch in training, else 1."""
        # The detector repeats it, not the head.
        return getattr(self.detector, 'num_branch', 1)

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
        if isinstance(roi_head, SparseRoIHead):
            return (f'{kind}, whose samples are queries of its own: heads '
                    'with queries cannot be distilled yet')
        if isinstance(roi_head, MultiInstanceRoIHead):
            return f'{kind}, which {UNORDERED}'
        if not isinstance(roi_head, (StandardRoIHead, CascadeRoIHead)):
            return (f'{kind}, which is neither a StandardRoIHead nor a '
                    'CascadeRoIHead')
        if getattr(roi_head, 'bbox_head', None) is None:
            return f'{kind} without a `bbox_head`'
        reasons = map(_reason_against_bbox_head,
                      _as_stages(roi_head.bbox_head))
        return next((reason for reason in reasons if reason), None)

    @contextmanager
    def observe(self, data_samples: SampleList = ()) -> Iterator[Observation]:
        roi_head = self.detector.roi_head
        observation = Observation()
        handles = []
        stages = [_ObservedStage() for _ in self._bbox_heads]
        extractors = _as_stages(roi_head.bbox_roi_extractor)
        for stage, extractor, bbox_head in zip(stages, extractors,
                                               self._bbox_heads):
            handles += [
                extractor.register_forward_pre_hook(stage.record_rois),
                bbox_head.register_forward_hook(stage.record_logits),
                bbox_head.loss_cls.register_forward_pre_hook(
                    stage.record_targets, with_kwargs=True)
            ]
        with removed_on_leaving(handles):
            yield observation
        # Fewer than there are stages, where one refines no proposal.
        seen = [stage for stage in stages if stage.logits is not None]
        observation.groups += [
            self._as_samples(stage, index) for index, stage in enumerate(seen)
        ]
        observation.features = seen[0].features if seen else ()

    def _as_samples(self, stage: '_ObservedStage',
                    index: int) -> ClassificationSamples:
        image_index = stage.rois[:, 0].long()
        if self.num_branch > 1:
            image_index = image_index % (
                stage.features[0].shape[0] // self.num_branch)
        return ClassificationSamples(
            logits=self._columns(stage.logits),
            image_index=image_index,
            where=stage.rois,
            stage=index,
            group_weight=self._stage_weights[index],
            **stage.targets)

    def answer(self, images: Tensor, data_samples: SampleList,
               groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        features = self.detector.extract_feat(images)
        context = self._context(features)
        return [
            self._classify(features, context, group.where, group.stage)
            for group in groups
        ]

    def _classify(self, features: Tuple[Tensor], context: Dict[str, Any],
                  rois: Tensor, stage: int) -> Tensor:
        if self._folds_branches:
            rois = torch.cat([rois[:, :1] % features[0].shape[0], rois[:, 1:]],
                             dim=1)
        # The head's own composition of extractors, shared head and bbox
        # head, which its subclasses override.
        forward = self.detector.roi_head._bbox_forward
        if not self._is_cascade:
            logits = forward(features, rois)['cls_score']
        elif self._averages_stages:
            # As the cascade does for its own detections, but on RoIs that
            # stay where they are.
            logits = torch.stack([
                forward(index, features, rois, **context)['cls_score']
                for index in range(self.num_stages)
            ]).mean(dim=0)
        else:
            stage = min(stage, self.num_stages - 1)
            logits = forward(stage, features, rois, **context)['cls_score']
        return self._columns(logits)

    def _context(self, features: Tuple[Tensor]) -> Dict[str, Any]:
        """What HTC and SCNet add to the features of a RoI."""
        roi_head = self.detector.roi_head
        context = {}
        if getattr(roi_head, 'with_semantic', False):
            context['semantic_feat'] = roi_head.semantic_head(features)[1]
        if getattr(roi_head, 'with_glbctx', False):
            context['glbctx_feat'] = roi_head.glbctx_head(features)[1]
        return context

    def _columns(self, logits: Tensor) -> Tensor:
        """Logits whose activation gives the head's probabilities."""
        if not isinstance(self._bbox_heads[0].loss_cls, SeesawLoss):
            return logits
        logits = logits.float()
        objectness = logits[:, -2:].log_softmax(dim=1)
        classes = logits[:, :-2].log_softmax(dim=1)
        return torch.cat([classes + objectness[:, :1], objectness[:, 1:]],
                         dim=1)

    def probe(self) -> Tensor:
        weight = next(self.detector.parameters())
        images = torch.linspace(-2, 2, 3 * 128 * 128).view(1, 3, 128, 128)
        # RoIs of all sizes, so that each level of a pyramid is used.
        rois = torch.tensor([[0, 0, 0, side, side]
                             for side in (32.0, 128.0, 256.0, 512.0)])
        features = self.detector.extract_feat(images.to(weight))
        context = self._context(features)
        return torch.cat([
            self._classify(features, context, rois.to(weight),
                           stage).flatten() for stage in range(self.num_stages)
        ])

    def reason_against_student(self, student: HeadAdapter) -> Optional[str]:
        mine, other = self.num_stages, student.num_stages
        if 1 in (mine, other) or mine == other:
            return None
        return (f'must have as many stages, or one of them a single stage, '
                f'but the teacher has {mine} and the student {other}: choose '
                'another teacher')

    def prepare_as_teacher(self, student: HeadAdapter) -> None:
        roi_head = self.detector.roi_head
        self._averages_stages = student.num_stages == 1 < self.num_stages
        if student.num_branch > 1:
            self._folds_branches = self.num_branch != student.num_branch
            for module in self.detector.modules():
                if hasattr(module, 'test_branch_idx'):
                    # All branches, as the student trains them.
                    module.test_branch_idx = -1
        if next(self.detector.parameters()).device.type != 'cpu':
            return
        for module in roi_head.modules():
            # torchvision's kernel computes what mmcv's does, on a CPU in a
            # third of the time.
            if isinstance(module, RoIAlign) and module.pool_mode == 'avg':
                module.use_torchvision = True

    def reason_against_labelling(self) -> Optional[str]:
        detector = self.detector
        if not detector.with_rpn:
            return 'must propose its own RoIs, but has no RPN'
        if detector.train_cfg is None or detector.roi_head.train_cfg is None:
            return ('must have `model.train_cfg` in its config, which says '
                    'how labels are assigned, but has none')
        return None

    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        detector, roi_head = self.detector, self.detector.roi_head
        proposal_cfg = detector.test_cfg.rpn
        if protocol == 'train':
            proposal_cfg = detector.train_cfg.get('rpn_proposal', proposal_cfg)
        features = detector.extract_feat(images)
        context = self._context(features)
        metas = [sample.metainfo for sample in data_samples]
        proposals = detector.rpn_head.predict_by_feat(
            *detector.rpn_head(features),
            batch_img_metas=metas,
            cfg=proposal_cfg)
        with self.observe() as observation:
            for stage in range(self.num_stages):
                results = self._sample(stage, features, proposals,
                                       data_samples, protocol)
                if not self._is_cascade:
                    # Not the head's own, to which Grid R-CNN adds its grid.
                    StandardRoIHead.bbox_loss(roi_head, features, results)
                    break
                outputs = roi_head.bbox_loss(stage, features, results,
                                             **context)
                if stage + 1 < self.num_stages:
                    proposals = self._bbox_heads[stage].refine_bboxes(
                        results, outputs, metas)
                    if proposals is None:
                        break
        return observation.groups

    def _sample(self, stage: int, features: Tuple[Tensor], proposals: list,
                data_samples: SampleList, protocol: str) -> list:
        """Assign and, as in training, sample proposals."""
        roi_head = self.detector.roi_head
        assigner, sampler = roi_head.bbox_assigner, roi_head.bbox_sampler
        if self._is_cascade:
            assigner, sampler = assigner[stage], sampler[stage]
            # OHEM asks for it.
            roi_head.current_stage = stage
        if protocol != 'train':
            sampler = PseudoSampler()
        objects, ignored, _ = unpack_gt_instances(data_samples)
        results = []
        for index, found in enumerate(proposals):
            found.priors = found.pop('bboxes')
            assigned = assigner.assign(found, objects[index], ignored[index])
            results.append(
                sampler.sample(
                    assigned,
                    found,
                    objects[index],
                    feats=[level[index][None] for level in features]))
        return results


class _ObservedStage:
    """Hooks on one stage, and what they saw.

    The last call of the head, and of its loss, is the training's: OHEM runs
    both before, on all RoIs, to choose among them. Extractors may be called
    afterwards, by a mask branch.
    """

    def __init__(self) -> None:
        self.logits: Optional[Tensor] = None
        self.features: Tuple[Tensor, ...] = ()
        self.rois: Optional[Tensor] = None
        self.targets: Dict[str, Any] = {}
        self._extracted: tuple = ()

    def record_rois(self, _: nn.Module, args: tuple) -> None:
        self._extracted = args

    def record_logits(self, _: nn.Module, args: tuple, output: tuple) -> None:
        self.features, self.rois = self._extracted[:2]
        self.logits = output[0]
        self.targets = {}

    def record_targets(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        # Without weights it is PISA, which weighs by the loss it sees.
        if len(args) == 3:
            self.targets = dict(
                labels=args[1],
                weight=args[2],
                avg_factor=kwargs.get('avg_factor'))


def _as_stages(modules: nn.Module) -> Sequence[nn.Module]:
    return modules if isinstance(modules, nn.ModuleList) else [modules]


def _activation(bbox_head: nn.Module) -> str:
    use_sigmoid = getattr(bbox_head.loss_cls, 'use_sigmoid', False)
    # SeesawLoss has the flag too, and takes softmax all the same.
    is_softmax = not use_sigmoid or isinstance(bbox_head.loss_cls, SeesawLoss)
    return 'softmax' if is_softmax else 'sigmoid'


def _reason_against_bbox_head(bbox_head: nn.Module) -> Optional[str]:
    kind = f'has the `bbox_head` {type(bbox_head).__name__}'
    loss_cls = getattr(bbox_head, 'loss_cls', None)
    if isinstance(bbox_head, MultiInstanceBBoxHead):
        return f'{kind}, which {UNORDERED}'
    # SABL's always classifies, and has no such flag.
    if loss_cls is None or not getattr(bbox_head, 'with_cls', True):
        return f'{kind}, which does not classify'
    if (getattr(loss_cls, 'custom_cls_channels', False)
            and not isinstance(loss_cls, SeesawLoss)):
        return (f'{kind} with {type(loss_cls).__name__}, which gives the '
                'columns of the logits a meaning of its own')
    return None
