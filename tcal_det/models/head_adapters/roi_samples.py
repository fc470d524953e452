"""RoIs of images, as a detector's training or test has them."""
import copy
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmdet.models.dense_heads import CascadeRPNHead, GuidedAnchorHead
from mmdet.models.task_modules.samplers import PseudoSampler, SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from torch import Tensor

from ..logits import at_least_float32


@dataclass
class RoICandidates:
    """Proposals that could have been sampled, with what a loss is told.

    Attributes:
        rois (Tensor): Position of the image in the batch, and corners, shape
            (P, 5).
        scores (Tensor): Scores that the proposals came with, shape (P,).
        labels (Tensor): Assigned classes, K for background, shape (P,).
        weight (Tensor): Weights in the head's own loss, shape (P,).
    """
    rois: Tensor
    scores: Tensor
    labels: Tensor
    weight: Tensor

    def subset(self, index: Tensor) -> 'RoICandidates':
        """Some of them, in the order of ``index``, shape (P',)."""
        return RoICandidates(self.rois[index], self.scores[index],
                             self.labels[index], self.weight[index])

    @classmethod
    def joined(cls, parts: Sequence['RoICandidates']) -> 'RoICandidates':
        """Those of several images after each other."""
        return cls(*(torch.cat([getattr(part, name) for part in parts])
                     for name in ('rois', 'scores', 'labels', 'weight')))


def propose(detector: nn.Module, features: Tuple[Tensor],
            data_samples: SampleList, protocol: str) -> InstanceList:
    """Proposals of a detector's RPN.

    Args:
        detector (nn.Module): With an ``rpn_head``, in eval.
        features (tuple[Tensor]): What ``extract_feat`` returned.
        data_samples (list[DetDataSample]): One for each image of these.
        protocol (str): 'train', with ``train_cfg.rpn_proposal``, or 'test',
            with ``test_cfg.rpn``.

    Returns:
        list[InstanceData]: By image.
    """
    rpn_head, cfg = detector.rpn_head, detector.test_cfg.rpn
    if protocol == 'train':
        cfg = detector.train_cfg.get('rpn_proposal', cfg)
    if isinstance(rpn_head, CascadeRPNHead):
        # Its stages hand their anchors on; no other method of it takes the
        # settings of the proposals.
        data_samples = copy.deepcopy(data_samples)
        for sample in data_samples:
            sample.gt_instances.labels.zero_()
        return rpn_head.loss_and_predict(
            features, data_samples, proposal_cfg=cfg)[1]
    metas = [sample.metainfo for sample in data_samples]
    if not isinstance(rpn_head, GuidedAnchorHead):
        return rpn_head.predict_by_feat(
            *rpn_head(features), batch_img_metas=metas, cfg=cfg)
    # In eval it leaves out places that training keeps, and takes one image.
    was_training = rpn_head.training
    rpn_head.train(protocol == 'train')
    proposals = []
    for index, meta in enumerate(metas):
        outputs = rpn_head([level[index][None] for level in features])
        proposals += rpn_head.predict_by_feat(
            *outputs, batch_img_metas=[meta], cfg=cfg)
    rpn_head.train(was_training)
    return proposals


def assign_and_sample(roi_head: nn.Module, stage: Optional[int],
                      features: Tuple[Tensor], proposals: InstanceList,
                      data_samples: SampleList,
                      protocol: str) -> List[SamplingResult]:
    """Assign proposals to objects and, as in training, sample them.

    Args:
        roi_head (nn.Module): With assigner and sampler.
        stage (int, optional): Stage of a cascade; None for a head that is no
            cascade.
        features (tuple[Tensor]): What ``extract_feat`` returned, for the
            samplers that look at them.
        proposals (list[InstanceData]): By image, with ``bboxes``; renamed.
        data_samples (list[DetDataSample]): With ``gt_instances``.
        protocol (str): 'train', or 'test', which keeps all proposals.

    Returns:
        list[SamplingResult]: By image.
    """
    assigner, sampler = roi_head.bbox_assigner, roi_head.bbox_sampler
    if stage is not None:
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


def assigned_candidates(roi_head: nn.Module, train_cfg: ConfigDict,
                        features: Tuple[Tensor], proposals: InstanceList,
                        data_samples: SampleList) -> List[RoICandidates]:
    """Give proposals the labels that a RoI head's training would.

    Args:
        roi_head (nn.Module): With assigner; no cascade.
        train_cfg (ConfigDict): Settings of its training.
        features (tuple[Tensor]): What ``extract_feat`` returned.
        proposals (list[InstanceData]): By image, with ``bboxes`` and
            ``scores``; renamed.
        data_samples (list[DetDataSample]): With ``gt_instances``.

    Returns:
        list[RoICandidates]: By image, without those that the assigner
        ignores.
    """
    results = assign_and_sample(roi_head, None, features, proposals,
                                data_samples, 'test')
    counts = [len(result.priors) for result in results]
    rois = bbox2roi([result.priors for result in results])
    labels, weight = roi_head.bbox_head.get_targets(results, train_cfg)[:2]
    scores = torch.cat([
        found.scores[torch.cat([result.pos_inds, result.neg_inds])]
        for found, result in zip(proposals, results)
    ])
    return [
        RoICandidates(*parts)
        for parts in zip(*(of_all.split(counts)
                           for of_all in (rois, scores, labels, weight)))
    ]


def regressed_boxes(bbox_head: nn.Module, rois: Tensor, labels: Tensor,
                    predicted: Union[Tensor, Sequence[Tensor],
                                     None], metas: Sequence[dict]) -> Tensor:
    """Boxes that a stage makes of its RoIs, inside of the images.

    Args:
        bbox_head (nn.Module): That of the stage.
        rois (Tensor): Shape (S, 5).
        labels (Tensor): Class of each RoI, of which the box is taken where
            each class has one of its own, int64, shape (S,).
        predicted (Tensor | sequence[Tensor], optional): What the head
            predicts of the boxes, S rows; None of a head that predicts none.
        metas (sequence[dict]): Of the images, with 'img_shape'.

    Returns:
        Tensor: float32, shape (S, 4).
    """
    boxes = rois[:, 1:].float()
    if predicted is None:
        return boxes
    boxes = boxes.clone()
    for image, meta in enumerate(metas):
        chosen = (rois[:, 0] == image).nonzero(as_tuple=True)[0]
        if len(chosen) == 0:
            continue
        # SABL's are two: buckets, and offsets in them.
        rows = (
            predicted[chosen].float() if isinstance(predicted, Tensor) else
            tuple(part[chosen].float() for part in predicted))
        boxes[chosen] = get_box_tensor(
            bbox_head.regress_by_class(boxes[chosen], labels[chosen], rows,
                                       meta))
    return boxes


def boxes_of_deltas(bbox_head: nn.Module, rois: Tensor, labels: Tensor,
                    deltas: Tensor) -> Tensor:
    """Boxes that a stage makes of its RoIs, with their graph.

    Args:
        bbox_head (nn.Module): That of the stage.
        rois (Tensor): Corners, shape (S, 4).
        labels (Tensor): Class of each RoI, of which the box is taken where
            each class has one of its own, int64, shape (S,).
        deltas (Tensor): What the head predicts of the boxes, shape (S, 4) or
            (S, 4 * K).

    Returns:
        Tensor: Not clipped to the images, at least float32, shape (S, 4).
    """
    deltas = at_least_float32(deltas)
    if not bbox_head.reg_class_agnostic:
        deltas = deltas.view(len(deltas), -1, 4).take_along_dim(
            labels[:, None, None], dim=1).flatten(1)
    decoded = bbox_head.bbox_coder.decode(
        at_least_float32(rois.detach()), deltas)
    return get_box_tensor(decoded)
