"""What the distillation asks of a detector's classification head.

A family of heads is one subclass of :class:`HeadAdapter`; nothing else in
the package knows how a head is called.
"""
from abc import ABCMeta, abstractmethod
from typing import (Any, Callable, ContextManager, Dict, List, Optional,
                    Sequence)

import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from ..detectors import detector_name
from .classification_samples import (ClassificationSamples, Observation,
                                     Predictions)
from .module_calls import ModuleCall


class HeadAdapter(metaclass=ABCMeta):
    """Reads, or runs, the classification head of one detector.

    Args:
        detector (nn.Module): One that :meth:`reason_against` lets pass.

    Attributes:
        detector (nn.Module): The detector.
        activation (str): 'softmax' or 'sigmoid', what makes probabilities
            of the logits.
        num_classes (int): Number of classes K, without background.
        cls_channels (int): Number of columns of the logits C: K + 1 with
            background last, or K.
        scores_iou (bool): Whether a score predicts class and IoU together.
        sample_name (str): What the head classifies, in the plural, for a
            message: 'RoIs', 'priors' or 'queries'.
        num_classes_key (str): Config key of ``num_classes``, below
            ``model``.
        num_stages (int): Stages of a cascade of RoI heads, else 1.
        shares_samples (bool): Whether another detector of this family can
            classify the same samples: RoIs and priors, not queries.
        classifies_boxes (bool): Whether it can classify any box that it is
            given.
        answers_by_queries (bool): Whether one sample is to find an object,
            and all others are not: a query.
        reg_max (int, optional): Largest distance, in strides, of its
            distributions of box edges; None if it predicts none.
    """

    activation: str
    num_classes: int
    cls_channels: int
    scores_iou = False
    sample_name: str
    num_classes_key: str
    num_stages = 1
    shares_samples = True
    classifies_boxes = False
    answers_by_queries = False
    reg_max: Optional[int] = None

    def __init__(self, detector: nn.Module) -> None:
        self.detector = detector

    @property
    def name(self) -> str:
        """The detector, as its user calls it."""
        return detector_name(self.detector)

    @property
    @abstractmethod
    def loss_cls(self) -> Optional[nn.Module]:
        """The head's classification loss; None if it has no module for it."""

    @property
    def parts(self) -> Dict[str, nn.Module]:
        """Modules whose runs can be recorded, by name.

        'backbone'; 'neck', the backbone of a detector without one; 'head.0',
        'head.1', ... of each stage of a head that is run once in a step;
        'dense_head', the same of a dense head only; and 'classifier.0', ...
        the last layer of each stage of an RoI head, where it is called
        ``fc_cls``.
        """
        detector = self.detector
        parts = dict(backbone=detector.backbone, neck=detector.backbone)
        if getattr(detector, 'neck', None) is not None:
            parts['neck'] = detector.neck
        return parts

    @classmethod
    @abstractmethod
    def matches(cls, detector: nn.Module) -> bool:
        """Whether the detector's head is of this family at all."""

    @classmethod
    @abstractmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        """Why a head of this family cannot be read; None if it can.

        Args:
            detector (nn.Module): One that :meth:`matches`.

        Returns:
            str, optional: What follows 'the teacher FasterRCNN ...' in a
            message.
        """

    @abstractmethod
    def observe(
        self, data_samples: SampleList = ()) -> ContextManager[Observation]:
        """Record what the detector's own ``loss`` sends through its head.

        Public forward hooks, removed on leaving: no method is replaced,
        nothing is computed again, nothing outlives the step.

        Args:
            data_samples (list[DetDataSample]): Samples of the images; read
                where the loss says nothing of a divisor. Defaults to ().

        Returns:
            ContextManager[Observation]: Its groups are there on leaving.
        """

    def look(self, images: Tensor, data_samples: SampleList) -> Any:
        """Compute of a batch what does not depend on the samples.

        The distiller calls it before the student's loss: what runs here
        does not need its memory beside the student's graph. Only of a head
        that ``shares_samples``.

        Args:
            images (Tensor): In this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images.

        Returns:
            Any: What :meth:`answer` takes.
        """
        raise NotImplementedError

    def answer(self, seen: Any,
               groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        """Logits of the samples of another detector of this family.

        With :meth:`look` backbone, neck and head run once. No RPN, no
        assignment, no NMS. Only of a head that ``shares_samples``.

        Args:
            seen (Any): What :meth:`look` returned; may be emptied.
            groups (sequence[ClassificationSamples]): What was observed.

        Returns:
            list[Tensor]: For each group, shape (S, C).
        """
        raise NotImplementedError

    @abstractmethod
    def probe(self) -> Tensor:
        """Logits on a synthetic image, to compare two copies of a detector.

        Returns:
            Tensor: One-dimensional.
        """

    def reason_against_student(self, student: 'HeadAdapter') -> Optional[str]:
        """Why this detector cannot answer for a student's samples.

        Args:
            student (HeadAdapter): One of the same family, of the same
                classes and activation.

        Returns:
            str, optional: What differs, and the remedy; None if it can.
        """
        return None

    @abstractmethod
    def prepare_as_teacher(self, student: 'HeadAdapter') -> None:
        """Choose what answers this student, and fast; may change the model.

        Args:
            student (HeadAdapter): One that ``check_pair`` lets pass.
        """

    def reason_against_exchange(self, student: 'HeadAdapter') -> Optional[str]:
        """Why no sample of a student can be exchanged for one of its own.

        Args:
            student (HeadAdapter): Adapter of the student.

        Returns:
            str, optional: What follows 'of the teacher X and the student Y
            ...' in a message; None if they can be.
        """
        return (f'the teacher classifies {self.sample_name} and the student '
                f'{student.sample_name}')

    def reason_against_boxes(self) -> Optional[str]:
        """Why the boxes of its samples cannot be read; None if they can.

        Returns:
            str, optional: What follows 'the student RetinaNet ...' in a
            message.
        """
        return None

    def choose(
            self,
            groups: Sequence[ClassificationSamples]) -> List[Optional[Tensor]]:
        """Samples whose boxes are looked at by a detector of another family.

        Args:
            groups (sequence[ClassificationSamples]): What was observed.

        Returns:
            list[Tensor | None]: Positions in each group, in ascending order,
            int64; None for all.
        """
        return [None] * len(groups)

    def reason_against_predicting(self) -> Optional[str]:
        """Why :meth:`predict` cannot serve; None if it can.

        Returns:
            str, optional: What follows 'the teacher FasterRCNN ...' in a
            message.
        """
        return None

    @abstractmethod
    def predict(self, images: Tensor,
                data_samples: SampleList) -> List[Predictions]:
        """Boxes with whole rows of logits, before any threshold or NMS.

        Args:
            images (Tensor): In this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images.

        Returns:
            list[Predictions]: The last are the detector's own; before them,
            those of earlier decoder layers of a detector with queries.
        """

    def reason_against_scoring(self) -> Optional[str]:
        """Why :meth:`score_maps` cannot serve; None if it can.

        Returns:
            str, optional: What follows 'the teacher DINO ...' in a message.
        """
        return f'classifies {self.sample_name}, not the places of its maps'

    def score_maps(self, maps: Sequence[Tensor], call: Optional[ModuleCall],
                   calibrate: Callable[[Tensor], Tensor]) -> List[Tensor]:
        """How sure this detector is of an object, at each place of its maps.

        Args:
            maps (sequence[Tensor]): What its neck returned, of each level.
            call (ModuleCall, optional): The run of its head on them; None
                where it did not run.
            calibrate (callable): Its calibrator, logits to logits of shape
                (S, C).

        Returns:
            list[Tensor]: Probability of the most probable class, of each
            level, at least float32, shape (N, 1, H, W).
        """
        raise NotImplementedError

    def reason_against_regressing(self) -> Optional[str]:
        """Why :meth:`regress` cannot serve; None if it can.

        Returns:
            str, optional: What follows 'the student DINO ...' in a message.
        """
        return f'makes its boxes of {self.sample_name} that are its own'

    def regress(self, calls: Dict[str, ModuleCall],
                groups: Sequence[ClassificationSamples],
                labels: Sequence[Tensor]) -> List[Tensor]:
        """The boxes that its head makes of samples, with their graph.

        Args:
            calls (dict[str, ModuleCall]): The run of each stage of its head
                on these samples.
            groups (sequence[ClassificationSamples]): The samples: its own, or
                those of its student.
            labels (sequence[Tensor]): Class of each sample, of which the box
                is taken where each class has one of its own, int64, shape
                (S,) for each group.

        Returns:
            list[Tensor]: For each group corners in the pixels of the
            network's input, not clipped, at least float32, shape (S, 4).
        """
        raise NotImplementedError

    def edge_distributions(self, maps: Sequence[Tensor],
                           call: Optional[ModuleCall]) -> List[Tensor]:
        """How far from each of its priors the edges of the box may be.

        Only of a head with ``reg_max``.

        Args:
            maps (sequence[Tensor]): What its neck returned, of each level.
            call (ModuleCall, optional): The run of its head on them; None
                where it did not run.

        Returns:
            list[Tensor]: Logits of the distances 0, 1, ..., ``reg_max`` of
            each level, or of those that its student has, in the order of
            the rows of class logits, shape (N * P, 4, reg_max + 1).
        """
        raise NotImplementedError

    def reason_against_labelling(self) -> Optional[str]:
        """Why :meth:`label` cannot serve; None if it can.

        Returns:
            str, optional: What follows 'the teacher FasterRCNN ...' in a
            message.
        """
        return None

    @abstractmethod
    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        """Classify annotated images, and say what was right.

        Args:
            images (Tensor): In this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images, with
                ``gt_instances``.
            protocol (str): 'train', samples as distillation sees them, or
                'test', all that detection looks at.

        Returns:
            list[ClassificationSamples]: With ``labels``, without gradient.
        """
