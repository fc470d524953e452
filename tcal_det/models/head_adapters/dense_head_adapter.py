"""Adapter of dense heads, which classify anchors, points or cells.

A sample is a prior, and all priors are samples. A group is a pyramid level.
The student's logits are therefore the tensors that its own loss received, and
the teacher's logits are calibrated and compared level by level.

Shapes: N images; :math:`P_l` priors of level l in an image; C columns of
logits; K classes.
"""
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmdet.models.dense_heads import GFLHead, SABLRetinaHead
from mmdet.models.losses import QualityFocalLoss, VarifocalLoss
from mmdet.structures import SampleList
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.errors import InvalidTypeError, InvalidValueError
from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .decoded_boxes import PredictedBoxes, clip_to_images, label_by_overlap
from .dense_grid import DenseGrid
from .dense_head_specs import LossCall, Targets, head_spec
from .dense_targets import loss_divisor, split_targets
from .head_adapter import HeadAdapter
from .hooks import removed_on_exit
from .module_calls import ModuleCall

# Side of the image of `probe`: a level of stride 128 then has several cells.
PROBE_SIZE = 512
# Number of priors per image that are taught by a teacher of another family;
# mmdet's RoI heads usually train on as many RoIs.
MOST_CHOSEN = 512
# Number of predictions per level and image; mmdet's usual `nms_pre`.
MOST_PREDICTED = 1000


class DenseHeadAdapter(HeadAdapter):
    """Adapter of heads that classify every anchor, point or cell."""

    sample_name = 'priors'
    num_classes_key = 'bbox_head.num_classes'
    _head_spec = staticmethod(head_spec)

    def __init__(self, detector: nn.Module) -> None:
        super().__init__(detector)
        head = self._head
        self._spec = self._head_spec(head)
        self.num_classes = head.num_classes
        self.cls_channels = getattr(head, 'cls_out_channels', self.num_classes)
        self.activation = ('sigmoid' if getattr(head, 'use_sigmoid_cls', True)
                           else 'softmax')
        self.scores_iou = (
            isinstance(
                getattr(head, 'loss_cls', None),
                (QualityFocalLoss, VarifocalLoss))
            or 'loss_obj' in self._spec.loss_modules)
        if isinstance(head, GFLHead):
            self.reg_max = head.reg_max
        # For a teacher: the level that has the stride of each student level.
        self._levels: Optional[List[int]] = None

    @property
    def loss_cls(self) -> Optional[nn.Module]:
        return getattr(self._head, 'loss_cls', None)

    @property
    def parts(self) -> Dict[str, nn.Module]:
        return dict(
            super().parts, dense_head=self._head, **{'head.0': self._head})

    @property
    def _head(self) -> nn.Module:
        return self.detector.bbox_head

    @classmethod
    def matches(cls, detector: nn.Module) -> bool:
        return getattr(detector, 'bbox_head', None) is not None

    @classmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        head = detector.bbox_head
        kind = f'has the `bbox_head` {type(head).__name__}, which'
        spec = head_spec(head)
        if spec is None:
            return (f'{kind} is neither an AnchorHead, an AnchorFreeHead nor '
                    'another head that can be read')
        return f'{kind} {spec}' if isinstance(spec, str) else None

    @contextmanager
    def observe(self, data_samples: SampleList = ()) -> Iterator[Observation]:
        head, spec = self._head, self._spec
        observation = Observation()
        outputs: tuple = ()
        calls: List[LossCall] = []

        def record_outputs(_, args, output):
            nonlocal outputs
            observation.features = tuple(args[0])
            # FSAF changes the lists that it has returned.
            outputs = tuple(
                tuple(part) if isinstance(part, (list, tuple)) else part
                for part in output)
            calls.clear()

        def record_calls_of(name):

            def record(_, args, kwargs):
                # Calls without reduction only choose samples.
                if kwargs.get('reduction_override') != 'none':
                    weight = args[2] if len(args) > 2 else kwargs.get('weight')
                    calls.append(
                        LossCall(name, args[0], args[1], weight,
                                 kwargs.get('avg_factor')))

            return record

        handles = [head.register_forward_hook(record_outputs)]
        for name in spec.loss_modules:
            handles.append(
                getattr(head, name).register_forward_pre_hook(
                    record_calls_of(name), with_kwargs=True))
        with removed_on_exit(handles):
            yield observation
        observation.groups += self._as_groups(outputs, calls, data_samples)
        predicted = PredictedBoxes(head, outputs)
        observation.boxes = lambda: [
            boxes.flatten(0, 1)
            for boxes in _clipped(predicted.decode(), data_samples)
        ]

    def _as_groups(self, outputs: tuple, calls: List[LossCall],
                   data_samples: SampleList) -> List[ClassificationSamples]:
        spec, maps = self._spec, outputs[0]
        num_images = maps[0].shape[0]
        num_priors = [self._num_priors(level) for level in maps]
        targets = None
        if spec.targets is not None and calls:
            targets = spec.targets(calls, self.num_classes)
            self._check_all_classified(targets, num_images * sum(num_priors))
        parts = split_targets(targets, spec.order, num_images, num_priors)
        groups = []
        for level, logits in enumerate(
                self._logits(outputs, calls, num_images, num_priors)):
            image_index = torch.arange(
                num_images,
                device=logits.device).repeat_interleave(num_priors[level])
            groups.append(
                ClassificationSamples(
                    logits=logits,
                    image_index=image_index,
                    location=tuple(maps[level].shape[-2:]),
                    stage=level,
                    **parts[level]))
        divisor = loss_divisor(spec.divisor, groups, calls, data_samples,
                               self.num_classes)
        for group in groups:
            group.avg_factor = divisor
        return groups

    def _check_all_classified(self, targets: Targets, expected: int) -> None:
        if len(targets.labels) != expected:
            raise InvalidTypeError(
                f'the `bbox_head` {type(self._head).__name__} of {self.name} '
                f'must classify all of its {expected} priors, but its '
                f'`loss_cls` was given {len(targets.labels)}: heads that '
                'train on a subset of their priors cannot be read')

    def _num_priors(self, level: Tensor) -> int:
        """Count the priors of a level in one image."""
        columns = getattr(self._head, self._spec.num_attributes)
        return level.shape[1] // columns * level.shape[2] * level.shape[3]

    def _logits(self, outputs: tuple, calls: List[LossCall], num_images: int,
                num_priors: List[int]) -> Iterator[Tensor]:
        """Yield the logits of each level, shape (N * P, C)."""
        spec = self._spec
        loss_inputs = [call.prediction for call in calls]
        if spec.takes_loss_input and loss_inputs:
            if len(loss_inputs) == 1:
                loss_inputs = loss_inputs[0].split(
                    [num_images * count for count in num_priors])
            yield from loss_inputs
            return
        for level in range(len(num_priors)):
            yield spec.logits(self._head, outputs, level).flatten(0, 1)

    def choose(
            self,
            groups: Sequence[ClassificationSamples]) -> List[Optional[Tensor]]:
        """Choose 512 priors per image: positives first, then by score."""
        num_images = 1 + int(groups[0].image_index[-1])
        ranks = []
        for group in groups:
            rank = self._best_scores(group.logits.detach())
            if group.labels is not None:
                is_object = (group.labels >= 0) & (
                    group.labels < self.num_classes)
                rank = rank + is_object
            ranks.append(rank.view(num_images, -1))
        counts = [rank.shape[1] for rank in ranks]
        ranks = torch.cat(ranks, dim=1)
        best = ranks.sort(dim=1, descending=True, stable=True).indices
        is_chosen = torch.zeros_like(ranks, dtype=torch.bool)
        is_chosen.scatter_(1, best[:, :MOST_CHOSEN], True)
        return [
            level.flatten().nonzero(as_tuple=True)[0]
            for level in is_chosen.split(counts, dim=1)
        ]

    def _best_scores(self, logits: Tensor) -> Tensor:
        """Compute the probability of the most probable class, float32."""
        if self.activation == 'sigmoid':
            best = logits[..., :self.num_classes].amax(dim=-1)
            return best.float().sigmoid()
        return logits.float().softmax(dim=-1)[..., :self.num_classes].amax(-1)

    def predict(self, images: Tensor,
                data_samples: SampleList) -> List[Predictions]:
        outputs = [
            list(part) if isinstance(part, (list, tuple)) else part
            for part in self._head(self.detector.extract_feat(images))
        ]
        boxes = _clipped(
            PredictedBoxes(self._head, outputs).decode(), data_samples)
        kept_boxes, kept_logits = [], []
        for level, level_boxes in enumerate(boxes):
            logits = self._spec.logits(self._head, outputs, level)
            # Frees the maps of this level before the next level is read.
            outputs[0][level] = None
            best = self._best_scores(logits).sort(
                dim=1, descending=True, stable=True).indices
            best = best[:, :MOST_PREDICTED, None]
            kept_boxes.append(level_boxes.take_along_dim(best, dim=1))
            kept_logits.append(logits.take_along_dim(best, dim=1))
        return [
            Predictions(
                list(torch.cat(kept_boxes, dim=1)),
                list(torch.cat(kept_logits, dim=1)))
        ]

    def reason_against_scoring(self) -> Optional[str]:
        return None

    def score_maps(self, maps: Sequence[Tensor], call: Optional[ModuleCall],
                   calibrate: Callable[[Tensor], Tensor]) -> List[Tensor]:
        outputs = self._head(maps) if call is None else call.output
        scores = []
        for level, level_map in enumerate(outputs[0]):
            logits = self._spec.logits(self._head, outputs, level)
            best = self._best_scores(calibrate(logits.flatten(0, 1)))
            num_images, (height, width) = len(logits), level_map.shape[-2:]
            # The priors of one position are consecutive.
            scores.append(
                best.view(num_images, height, width, -1).amax(dim=-1)[:, None])
        return scores

    def reason_against_regressing(self) -> Optional[str]:
        if isinstance(self._head, SABLRetinaHead):
            return (f'has the `bbox_head` {type(self._head).__name__}, which '
                    'chooses buckets instead of regressing boxes')
        return None

    def regress(self, calls: Dict[str, ModuleCall],
                groups: Sequence[ClassificationSamples],
                labels: Sequence[Tensor]) -> List[Tensor]:
        boxes = PredictedBoxes(
            self._head, calls['head.0'].output, keeps_graph=True).decode()
        levels = self._levels or range(len(boxes))
        return [boxes[levels[group.stage]].flatten(0, 1) for group in groups]

    def edge_distributions(self, maps: Sequence[Tensor],
                           call: Optional[ModuleCall]) -> List[Tensor]:
        outputs = self._head(maps) if call is None else call.output
        levels = self._levels or range(len(outputs[1]))
        return [
            outputs[1][level].permute(0, 2, 3,
                                      1).reshape(-1, 4, self.reg_max + 1)
            for level in levels
        ]

    def prepare_batch(
            self, images: Tensor,
            data_samples: SampleList) -> List[Tuple[Tensor, Tuple[int, int]]]:
        """Compute logits and map sizes of the levels that the student has."""
        return self.prepare_maps(self.detector.extract_feat(images))

    def prepare_maps(
            self,
            maps: Sequence[Tensor]) -> List[Tuple[Tensor, Tuple[int, int]]]:
        """Do the same as :meth:`prepare_batch`, with given feature maps.

        Args:
            maps (sequence[Tensor]): Output of this detector's neck, one map
                per level.
        """
        # Lists, from which a level is removed after reading: this saves the
        # memory of all maps beside that of all logits.
        outputs = [
            list(part) if isinstance(part, (list, tuple)) else part
            for part in self._head(maps)
        ]
        prepared = []
        for level in self._levels or range(len(outputs[0])):
            size = tuple(outputs[0][level].shape[-2:])
            logits = self._spec.logits(self._head, outputs, level)
            prepared.append((logits.flatten(0, 1), size))
            for part in outputs:
                if isinstance(part, list) and level < len(part):
                    part[level] = None
        return prepared

    def classify_groups(
            self, prepared: List[Tuple[Tensor, Tuple[int, int]]],
            groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        group_logits = []
        for group in groups:
            logits, size = prepared.pop(0)
            if size != group.location:
                raise InvalidValueError(
                    f'the teacher {self.name} must have maps of the size of '
                    f'the student\'s, but on level {group.stage} it has '
                    f'{size} and the student {group.location}: choose '
                    'backbones and necks that round sizes in the same way')
            group_logits.append(logits)
        return group_logits

    def probe(self) -> Tensor:
        weight = next(self.detector.parameters())
        images = torch.linspace(-2, 2, 3 * PROBE_SIZE**2).view(
            1, 3, PROBE_SIZE, PROBE_SIZE)
        outputs = self._head(self.detector.extract_feat(images.to(weight)))
        return torch.cat([level.flatten() for level in outputs[0]])

    def reason_against_student(self, student: HeadAdapter) -> Optional[str]:
        return self._grid.reason_against(student._grid)

    def prepare_as_teacher(self, student: HeadAdapter) -> None:
        if (not isinstance(student, DenseHeadAdapter)
                or self.reason_against_student(student) is not None):
            return
        grid, student_grid = self._grid, student._grid
        self._levels = [
            grid.strides.index(stride) for stride in student_grid.strides
        ]
        if grid.offset != student_grid.offset:
            print_log(
                'Teacher and student place their priors at '
                f'{grid.offset:g} and {student_grid.offset:g} of a cell; '
                'priors of the same cell are compared as if they were equal',
                'current')

    @property
    def _grid(self) -> DenseGrid:
        return DenseGrid(self._head)

    def reason_against_labelling(self) -> Optional[str]:
        kind = f'has the `bbox_head` {type(self._head).__name__}, which'
        if self.detector.train_cfg is None:
            return ('must have `model.train_cfg` in its config, which defines '
                    'how labels are assigned, but has none')
        if self._spec.targets is None:
            return f'{kind} assigns no classes to its priors'
        if self._spec.assigns_by_score and not self.scores_iou:
            return (f'{kind} assigns classes by its own scores, so that with '
                    'these labels it would appear better calibrated than it '
                    'is; labels by the IoU of its boxes are only possible if '
                    'its scores predict an IoU')
        return None

    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        features = self.detector.extract_feat(images)
        if self._spec.assigns_by_score:
            return self._label_by_overlap(features, data_samples)
        was_training = self._head.training
        # Some heads return less in test mode. Only the flag of the head is
        # set, so that its BatchNorms stay in eval mode.
        self._head.training = True
        try:
            with self.observe(data_samples) as observation:
                self._head.loss(features, data_samples)
        finally:
            self._head.training = was_training
        return observation.groups

    def _label_by_overlap(
            self, features: Tuple[Tensor, ...],
            data_samples: SampleList) -> List[ClassificationSamples]:
        """Label by the overlap of the boxes, independent of the scores."""
        outputs = self._head(features)
        groups = []
        all_boxes = PredictedBoxes(self._head, outputs).decode()
        for level, boxes in enumerate(all_boxes):
            labels, quality, weight = label_by_overlap(boxes, data_samples,
                                                       self.num_classes)
            groups.append(
                ClassificationSamples(
                    logits=self._spec.logits(self._head, outputs,
                                             level).flatten(0, 1),
                    image_index=torch.arange(
                        len(boxes),
                        device=boxes.device).repeat_interleave(boxes.shape[1]),
                    location=tuple(outputs[0][level].shape[-2:]),
                    stage=level,
                    labels=labels,
                    quality=quality,
                    weight=weight))
        return groups


def _clipped(boxes: Sequence[Tensor],
             data_samples: SampleList) -> List[Tensor]:
    """Clip the boxes of each level to the images, if these are known."""
    if not data_samples:
        return list(boxes)
    return [clip_to_images(level, data_samples) for level in boxes]
