"""What all detectors with queries have in common.

A query looks for an object of its own choice: no other detector can be asked
about it. But a detector with queries predicts a set, each object once, and
two sets can be matched.

Shapes: N images, Q queries of an image, S = N * Q, C columns of logits.
"""
from abc import abstractmethod
from typing import List, Optional

import torch
from mmdet.models.losses import QualityFocalLoss
from mmdet.structures import DetDataSample, SampleList
from torch import Tensor

from ..logits import class_probabilities
from .claimed_objects import claim_objects
from .classification_samples import ClassificationSamples
from .head_adapter import HeadAdapter

# Large enough for a detector that chooses 900 of its places for queries.
PROBE_SIZE = 512


class SetPredictionAdapter(HeadAdapter):
    """A head that answers for queries; a group of samples is a layer."""

    sample_name = 'queries'
    shares_samples = False
    answers_by_queries = True

    @property
    def scores_iou(self) -> bool:
        return isinstance(self.loss_cls, QualityFocalLoss)

    @abstractmethod
    def _last_logits(self, images: Tensor, data_samples: SampleList) -> Tensor:
        """Logits of the last layer for all queries, shape (N, Q, C)."""

    def probe(self) -> Tensor:
        weight = next(self.detector.parameters())
        images = torch.linspace(-2, 2, 3 * PROBE_SIZE**2).view(
            1, 3, PROBE_SIZE, PROBE_SIZE)
        sample = DetDataSample()
        size = (PROBE_SIZE, PROBE_SIZE)
        sample.set_metainfo(dict(img_shape=size, batch_input_shape=size))
        logits = self._last_logits(images.to(weight), [sample])[0]
        # Where scores choose the queries, rounding may change their order.
        return logits.sort(dim=0).values.flatten()

    def prepare_as_teacher(self, student: HeadAdapter) -> None:
        """Nothing: it predicts as it always does."""

    def reason_against_sharing(
            self, student: 'SetPredictionAdapter') -> Optional[str]:
        """Why a student cannot answer for this teacher's queries.

        Args:
            student (SetPredictionAdapter): Adapter of the student.

        Returns:
            str, optional: What follows 'the teacher X and the student Y
            ...'; None if it can.
        """
        return (f'do not fit: the queries of {self.name} are learned with '
                'its own features, and are no points at which another '
                'decoder could be asked')

    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        """Classify annotated images, and say what was right.

        Only the last layer is labelled, that of the detections. The labels
        of its training are no use here: they follow its own scores. They
        come from :func:`claim_objects` instead, in either protocol.

        Args:
            images (Tensor): In this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images, with
                ``gt_instances``.
            protocol (str): 'train' or 'test'.

        Returns:
            list[ClassificationSamples]: One, with ``labels``, ``weight`` and,
            if scores predict an IoU, ``quality``.
        """
        layers = self.predict(images, data_samples)
        predicted = layers[-1]
        claims = [
            claim_objects(
                boxes,
                class_probabilities(logits, self.activation, self.num_classes),
                sample, self.num_classes) for boxes, logits, sample in zip(
                    predicted.boxes, predicted.logits, data_samples)
        ]
        labels, quality, weight = map(torch.cat, zip(*claims))
        counts = torch.tensor([len(one) for one in predicted.logits])
        return [
            ClassificationSamples(
                logits=torch.cat(predicted.logits),
                image_index=torch.arange(
                    len(counts)).repeat_interleave(counts).to(labels.device),
                where=torch.cat(predicted.boxes),
                stage=len(layers) - 1,
                labels=labels,
                quality=quality if self.scores_iou else None,
                weight=weight)
        ]


def with_batch_shape(data_samples: SampleList, images: Tensor) -> SampleList:
    """Data samples that say the size of these images.

    A teacher may pad a batch to another size than its student, and masks out
    the padding.

    Args:
        data_samples (list[DetDataSample]): Of the images; not changed.
        images (Tensor): Shape (N, 3, H, W).

    Returns:
        list[DetDataSample]: With metainfo only, if the size differs.
    """
    size = tuple(images.shape[-2:])
    if all(tuple(sample.batch_input_shape) == size for sample in data_samples):
        return data_samples
    resized = []
    for sample in data_samples:
        one = DetDataSample()
        one.set_metainfo(dict(sample.metainfo, batch_input_shape=size))
        resized.append(one)
    return resized


def image_extents(data_samples: SampleList, like: Tensor) -> Tensor:
    """What boxes relative to the image are multiplied by.

    Args:
        data_samples (list[DetDataSample]): With ``img_shape``, the size
            without the padding.
        like (Tensor): Gives device and dtype.

    Returns:
        Tensor: Width, height, width, height; shape (N, 4).
    """
    return like.new_tensor([(width, height, width, height)
                            for height, width in (sample.img_shape[:2]
                                                  for sample in data_samples)])
