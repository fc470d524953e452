"""Base class of the adapters of detectors with queries.

A query has no meaning for another detector, so that two detectors cannot
classify the same queries. But a detector with queries predicts a set with
each object only once, and two sets of predictions can be matched.

Shapes: N images; Q queries of an image; S = N * Q samples; C columns of
logits.
"""
from abc import abstractmethod
from typing import List, Optional

import torch
from mmdet.models.losses import QualityFocalLoss
from mmdet.structures import DetDataSample, SampleList
from torch import Tensor

from ..logits import class_probabilities
from .classification_samples import ClassificationSamples
from .head_adapter import HeadAdapter
from .object_assignment import assign_objects

# Large enough for a detector that selects 900 map positions as queries.
PROBE_SIZE = 512


class SetPredictionAdapter(HeadAdapter):
    """Adapter of a head with queries; a group is a decoder layer or stage."""

    sample_name = 'queries'
    shares_samples = False
    uses_queries = True

    @property
    def scores_iou(self) -> bool:
        return isinstance(self.loss_cls, QualityFocalLoss)

    @abstractmethod
    def _last_logits(self, images: Tensor, data_samples: SampleList) -> Tensor:
        """Compute the last layer's logits of all queries, shape (N, Q, C)."""

    def probe(self) -> Tensor:
        weight = next(self.detector.parameters())
        images = torch.linspace(-2, 2, 3 * PROBE_SIZE**2).view(
            1, 3, PROBE_SIZE, PROBE_SIZE)
        sample = DetDataSample()
        size = (PROBE_SIZE, PROBE_SIZE)
        sample.set_metainfo(dict(img_shape=size, batch_input_shape=size))
        logits = self._last_logits(images.to(weight), [sample])[0]
        # Sorted: if queries are selected by score, rounding may change their
        # order.
        return logits.sort(dim=0).values.flatten()

    def prepare_as_teacher(self, student: HeadAdapter) -> None:
        """Do nothing: a teacher with queries needs no preparation."""

    def reason_against_sharing(
            self, student: 'SetPredictionAdapter') -> Optional[str]:
        """Explain why the student cannot classify this teacher's queries.

        Args:
            student (SetPredictionAdapter): Adapter of the student.

        Returns:
            str, optional: Text that follows 'the teacher X and the student Y
            ...' in a message; None if it can classify them.
        """
        return (f'do not fit: the queries of {self.name} are learned with '
                'its own features, and are not positions that another '
                'decoder could use')

    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        """Classify annotated images, and label each sample.

        Only the last layer, which makes the detections, is labelled. The
        labels of the training cannot be used, because they depend on the
        detector's own scores. :func:`assign_objects` computes the labels
        instead, for both protocols.

        Args:
            images (Tensor): Images in this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images,
                with ``gt_instances``.
            protocol (str): 'train' or 'test'; both give the same result.

        Returns:
            list[ClassificationSamples]: One group with ``labels``,
            ``weight`` and, if scores predict an IoU, ``quality``.
        """
        layers = self.predict(images, data_samples)
        predicted = layers[-1]
        assignments = [
            assign_objects(
                boxes,
                class_probabilities(logits, self.activation, self.num_classes),
                sample, self.num_classes) for boxes, logits, sample in zip(
                    predicted.boxes, predicted.logits, data_samples)
        ]
        labels, quality, weight = map(torch.cat, zip(*assignments))
        counts = torch.tensor([len(logits) for logits in predicted.logits])
        return [
            ClassificationSamples(
                logits=torch.cat(predicted.logits),
                image_index=torch.arange(
                    len(counts)).repeat_interleave(counts).to(labels.device),
                location=torch.cat(predicted.boxes),
                stage=len(layers) - 1,
                labels=labels,
                quality=quality if self.scores_iou else None,
                weight=weight)
        ]


def with_batch_shape(data_samples: SampleList, images: Tensor) -> SampleList:
    """Set ``batch_input_shape`` of data samples to the size of the images.

    A teacher may pad a batch to another size than its student, and needs the
    size to mask out the padding.

    Args:
        data_samples (list[DetDataSample]): Data samples of the images; not
            changed.
        images (Tensor): Images, shape (N, 3, H, W).

    Returns:
        list[DetDataSample]: The given data samples, or copies that have only
        the metainfo if the size differs.
    """
    size = tuple(images.shape[-2:])
    if all(tuple(sample.batch_input_shape) == size for sample in data_samples):
        return data_samples
    resized = []
    for sample in data_samples:
        copied = DetDataSample()
        copied.set_metainfo(dict(sample.metainfo, batch_input_shape=size))
        resized.append(copied)
    return resized


def image_extents(data_samples: SampleList, like: Tensor) -> Tensor:
    """Compute the factors that convert relative boxes to pixels.

    Args:
        data_samples (list[DetDataSample]): Data samples with ``img_shape``,
            the size without the padding.
        like (Tensor): Tensor with the device and dtype of the result.

    Returns:
        Tensor: Width, height, width and height of each image, shape (N, 4).
    """
    return like.new_tensor([(width, height, width, height)
                            for height, width in (sample.img_shape[:2]
                                                  for sample in data_samples)])
