"""RoIs of images, as they are sampled in training or used in testing."""
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
    """Proposals that could be sampled, with their targets.

    Shapes: P proposals.

    Attributes:
        rois (Tensor): Position of the image in the batch, followed by the
            box corners, shape (P, 5).
        scores (Tensor): Scores of the proposals, shape (P,).
        labels (Tensor): Assigned classes, K for background, shape (P,).
        weight (Tensor): Weights in the head's own loss, shape (P,).
    """
    rois: Tensor
    scores: Tensor
    labels: Tensor
    weight: Tensor

    def subset(self, index: Tensor) -> 'RoICandidates':
        """Select proposals in the order of ``index``, shape (P',)."""
        return RoICandidates(self.rois[index], self.scores[index],
                             self.labels[index], self.weight[index])

    @classmethod
    def joined(cls, parts: Sequence['RoICandidates']) -> 'RoICandidates':
        """Concatenate the proposals of several images."""
        return cls(*(torch.cat([getattr(part, name) for part in parts])
                     for name in ('rois', 'scores', 'labels', 'weight')))


def propose(detector: nn.Module, features: Tuple[Tensor],
            data_samples: SampleList, protocol: str) -> InstanceList:
    """Compute the proposals of a detector's RPN.

    Args:
        detector (nn.Module): Detector with an ``rpn_head``, in eval mode.
        features (tuple[Tensor]): Output of ``extract_feat``.
        data_samples (list[DetDataSample]): Data samples of the images.
        protocol (str): 'train' to use ``train_cfg.rpn_proposal``, or 'test'
            to use ``test_cfg.rpn``.

    Returns:
        list[InstanceData]: Proposals of each image.
    """
    rpn_head, cfg = detector.rpn_head, detector.test_cfg.rpn
    if protocol == 'train':
        cfg = detector.train_cfg.get('rpn_proposal', cfg)
    if isinstance(rpn_head, CascadeRPNHead):
        # Each stage passes its anchors to the next. Only this method accepts
        # the settings of the proposals.
        data_samples = copy.deepcopy(data_samples)
        for sample in data_samples:
            sample.gt_instances.labels.zero_()
        return rpn_head.loss_and_predict(
            features, data_samples, proposal_cfg=cfg)[1]
    metas = [sample.metainfo for sample in data_samples]
    if not isinstance(rpn_head, GuidedAnchorHead):
        return rpn_head.predict_by_feat(
            *rpn_head(features), batch_img_metas=metas, cfg=cfg)
    # In eval mode this head leaves out positions that it keeps in training,
    # and accepts only one image.
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
    """Assign proposals to objects, and sample them as in training.

    Args:
        roi_head (nn.Module): RoI head with assigner and sampler.
        stage (int, optional): Stage of a cascade; None for a head without a
            cascade.
        features (tuple[Tensor]): Output of ``extract_feat``, which some
            samplers use.
        proposals (list[InstanceData]): Proposals of each image, with
            ``bboxes``, which is renamed to ``priors``.
        data_samples (list[DetDataSample]): Data samples of the images, with
            ``gt_instances``.
        protocol (str): 'train' to sample, or 'test' to keep all proposals.

    Returns:
        list[SamplingResult]: Result for each image.
    """
    assigner, sampler = roi_head.bbox_assigner, roi_head.bbox_sampler
    if stage is not None:
        assigner, sampler = assigner[stage], sampler[stage]
        # OHEM reads this attribute.
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
    """Label proposals as in the training of an RoI head.

    Args:
        roi_head (nn.Module): RoI head with an assigner, without a cascade.
        train_cfg (ConfigDict): Training settings of the RoI head.
        features (tuple[Tensor]): Output of ``extract_feat``.
        proposals (list[InstanceData]): Proposals of each image, with
            ``bboxes``, which is renamed to ``priors``, and ``scores``.
        data_samples (list[DetDataSample]): Data samples of the images, with
            ``gt_instances``.

    Returns:
        list[RoICandidates]: Labelled proposals of each image, without those
        that the assigner ignores.
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
    """Decode the boxes that a stage predicts for RoIs, clipped to the images.

    Args:
        bbox_head (nn.Module): Bbox head of the stage.
        rois (Tensor): RoIs with the index of their image, shape (S, 5).
        labels (Tensor): Class of each RoI, int64, shape (S,). It selects the
            box of a head that predicts one box per class.
        predicted (Tensor | sequence[Tensor], optional): Box predictions of
            the head, S rows; None for a head that does not predict boxes.
        metas (sequence[dict]): Meta information of the images, with
            'img_shape'.

    Returns:
        Tensor: Box corners, float32, shape (S, 4).
    """
    boxes = rois[:, 1:].float()
    if predicted is None:
        return boxes
    boxes = boxes.clone()
    for image, meta in enumerate(metas):
        chosen = (rois[:, 0] == image).nonzero(as_tuple=True)[0]
        if len(chosen) == 0:
            continue
        # SABL predicts two tensors: buckets, and offsets in the buckets.
        rows = (
            predicted[chosen].float() if isinstance(predicted, Tensor) else
            tuple(part[chosen].float() for part in predicted))
        boxes[chosen] = get_box_tensor(
            bbox_head.regress_by_class(boxes[chosen], labels[chosen], rows,
                                       meta))
    return boxes


def boxes_of_deltas(bbox_head: nn.Module, rois: Tensor, labels: Tensor,
                    deltas: Tensor) -> Tensor:
    """Decode the boxes that a stage predicts for RoIs, with their graph.

    Args:
        bbox_head (nn.Module): Bbox head of the stage.
        rois (Tensor): Corners of the RoIs, shape (S, 4).
        labels (Tensor): Class of each RoI, int64, shape (S,). It selects the
            box of a head that predicts one box per class.
        deltas (Tensor): Box predictions of the head, shape (S, 4) or
            (S, 4 * K).

    Returns:
        Tensor: Box corners, not clipped to the images, at least float32,
        shape (S, 4).
    """
    deltas = at_least_float32(deltas)
    if not bbox_head.reg_class_agnostic:
        deltas = deltas.view(len(deltas), -1, 4).take_along_dim(
            labels[:, None, None], dim=1).flatten(1)
    decoded = bbox_head.bbox_coder.decode(
        at_least_float32(rois.detach()), deltas)
    return get_box_tensor(decoded)
