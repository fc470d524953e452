"""Interface between the distillation and a detector's classification head.

Each family of heads has one subclass of :class:`HeadAdapter`. No other code
in the package knows how a head is called.
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
    """Read and run the classification head of one detector.

    Args:
        detector (nn.Module): Detector that :meth:`reason_against` accepts.

    Attributes:
        detector (nn.Module): The detector.
        activation (str): Activation that turns the logits into
            probabilities, 'softmax' or 'sigmoid'.
        num_classes (int): Number of classes K, without background.
        cls_channels (int): Number of columns C of the logits: K + 1 with the
            background class last, or K.
        scores_iou (bool): Whether a score predicts class and IoU together.
        sample_name (str): Plural name of the classified samples, for
            messages: 'RoIs', 'priors' or 'queries'.
        num_classes_key (str): Config key of ``num_classes``, below
            ``model``.
        num_stages (int): Number of stages of a cascade of RoI heads; 1 for
            all other heads.
        shares_samples (bool): Whether another detector of this family can
            classify the same samples: True for RoIs and priors, False for
            queries.
        classifies_boxes (bool): Whether the head can classify any given box.
        uses_queries (bool): Whether the samples are queries, of which
            exactly one should detect each object.
        reg_max (int, optional): Largest distance, in strides, of the
            predicted distributions of box edges; None if the head predicts
            no distributions.
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
    uses_queries = False
    reg_max: Optional[int] = None

    def __init__(self, detector: nn.Module) -> None:
        self.detector = detector

    @property
    def name(self) -> str:
        """Class name of the detector, without what is mixed in."""
        return detector_name(self.detector)

    @property
    @abstractmethod
    def loss_cls(self) -> Optional[nn.Module]:
        """Classification loss of the head; None if it has no such module."""

    @property
    def parts(self) -> Dict[str, nn.Module]:
        """Modules whose forward calls can be recorded, by name.

        The names are 'backbone'; 'neck' (the backbone if the detector has no
        neck); 'head.0', 'head.1', ... for the stages of a head that runs
        once in a step; 'dense_head' for the same module, only if it is a
        dense head; and 'classifier.0', ... for the last layer of each stage
        of an RoI head, if that layer is called ``fc_cls``.
        """
        detector = self.detector
        parts = dict(backbone=detector.backbone, neck=detector.backbone)
        if getattr(detector, 'neck', None) is not None:
            parts['neck'] = detector.neck
        return parts

    @classmethod
    @abstractmethod
    def matches(cls, detector: nn.Module) -> bool:
        """Check whether the detector has a head of this family."""

    @classmethod
    @abstractmethod
    def reason_against(cls, detector: nn.Module) -> Optional[str]:
        """Explain why a head of this family cannot be read.

        Args:
            detector (nn.Module): Detector that :meth:`matches`.

        Returns:
            str, optional: Text that follows 'the teacher FasterRCNN ...' in
            a message; None if the head can be read.
        """

    @abstractmethod
    def observe(
        self, data_samples: SampleList = ()) -> ContextManager[Observation]:
        """Record what the detector's own ``loss`` sends through its head.

        Public forward hooks record it and are removed at the end of the
        context. No method is replaced, nothing is computed again, and
        nothing is kept after the step.

        Args:
            data_samples (list[DetDataSample]): Data samples of the images;
                read if the loss is called without a divisor. Defaults to ().

        Returns:
            ContextManager[Observation]: Context of the observation, whose
            groups are filled when the context ends.
        """

    def prepare_batch(self, images: Tensor, data_samples: SampleList) -> Any:
        """Run the part of a batch that does not depend on the samples.

        The distiller calls this method before the student's loss, so that
        its temporary memory is not needed at the same time as the student's
        graph. Available only if ``shares_samples``.

        Args:
            images (Tensor): Images in this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            Any: First argument of :meth:`classify_groups`.
        """
        raise NotImplementedError

    def classify_groups(
            self, prepared: Any,
            groups: Sequence[ClassificationSamples]) -> List[Tensor]:
        """Classify the samples of another detector of this family.

        Together with :meth:`prepare_batch`, backbone, neck and head run once.
        RPN, assignment and NMS do not run. Available only if
        ``shares_samples``.

        Args:
            prepared (Any): Return value of :meth:`prepare_batch`; may be
                emptied.
            groups (sequence[ClassificationSamples]): Observed groups.

        Returns:
            list[Tensor]: Logits of each group, shape (S, C).
        """
        raise NotImplementedError

    @abstractmethod
    def probe(self) -> Tensor:
        """Compute logits on a synthetic image, to compare two detectors.

        Returns:
            Tensor: One-dimensional logits.
        """

    def reason_against_student(self, student: 'HeadAdapter') -> Optional[str]:
        """Explain why this teacher cannot classify a student's samples.

        Args:
            student (HeadAdapter): Adapter of a student of the same family,
                with the same classes and activation.

        Returns:
            str, optional: Difference and remedy; None if it can classify
            them.
        """
        return None

    @abstractmethod
    def prepare_as_teacher(self, student: 'HeadAdapter') -> None:
        """Prepare this teacher for its student; may change its modules.

        Args:
            student (HeadAdapter): Adapter of the student.
        """

    def reason_against_exchange(self, student: 'HeadAdapter') -> Optional[str]:
        """Explain why student samples cannot be replaced by the teacher's.

        Args:
            student (HeadAdapter): Adapter of the student.

        Returns:
            str, optional: Text that follows 'the teacher X and the student Y
            cannot exchange them, as ...' in a message; None if they can be
            replaced.
        """
        return (f'the teacher classifies {self.sample_name} and the student '
                f'{student.sample_name}')

    def reason_against_boxes(self) -> Optional[str]:
        """Explain why the boxes of the samples cannot be read.

        Returns:
            str, optional: Text that follows 'the student RetinaNet ...' in a
            message; None if the boxes can be read.
        """
        return None

    def choose(
            self,
            groups: Sequence[ClassificationSamples]) -> List[Optional[Tensor]]:
        """Choose the samples that a teacher of another family is to teach.

        Args:
            groups (sequence[ClassificationSamples]): Observed groups.

        Returns:
            list[Tensor]: Positions of the chosen samples in each group, in
            ascending order, int64; None for a group of which all samples are
            chosen.
        """
        return [None] * len(groups)

    def reason_against_predicting(self) -> Optional[str]:
        """Explain why :meth:`predict` cannot be used.

        Returns:
            str, optional: Text that follows 'the teacher FasterRCNN ...' in
            a message; None if it can be used.
        """
        return None

    @abstractmethod
    def predict(self, images: Tensor,
                data_samples: SampleList) -> List[Predictions]:
        """Predict boxes with all class logits, before any threshold or NMS.

        Args:
            images (Tensor): Images in this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            list[Predictions]: One element; for a detector with queries, one
            element per decoder layer, of which the last holds the
            predictions that the detector itself uses.
        """

    def reason_against_scoring(self) -> Optional[str]:
        """Explain why :meth:`score_maps` cannot be used.

        Returns:
            str, optional: Text that follows 'the teacher DINO ...' in a
            message; None if it can be used.
        """
        return (f'classifies {self.sample_name}, not the positions of its '
                'feature maps')

    def score_maps(self, maps: Sequence[Tensor], call: Optional[ModuleCall],
                   calibrate: Callable[[Tensor], Tensor]) -> List[Tensor]:
        """Score how probable an object is at each position of the maps.

        Args:
            maps (sequence[Tensor]): Output of this detector's neck, one map
                per level.
            call (ModuleCall, optional): Recorded call of the head on these
                maps; None if the head did not run.
            calibrate (callable): Calibrator of this detector, which maps
                logits of shape (S, C) to calibrated logits.

        Returns:
            list[Tensor]: Probability of the most probable class for each
            level, at least float32, shape (N, 1, H, W).
        """
        raise NotImplementedError

    def reason_against_regressing(self) -> Optional[str]:
        """Explain why :meth:`regress` cannot be used.

        Returns:
            str, optional: Text that follows 'the student DINO ...' in a
            message; None if it can be used.
        """
        return (f'predicts boxes from its own {self.sample_name}, which no '
                'other detector has')

    def regress(self, calls: Dict[str, ModuleCall],
                groups: Sequence[ClassificationSamples],
                labels: Sequence[Tensor]) -> List[Tensor]:
        """Decode the boxes that the head predicts for samples.

        Args:
            calls (dict[str, ModuleCall]): Recorded call of each stage of the
                head on these samples.
            groups (sequence[ClassificationSamples]): Samples of this
                detector, or those of its student.
            labels (sequence[Tensor]): Class of each sample, int64, shape
                (S,) for each group. It selects the box of a head that
                predicts one box per class.

        Returns:
            list[Tensor]: Box corners for each group with their graph, in
            pixels of the network's input, not clipped, at least float32,
            shape (S, 4).
        """
        raise NotImplementedError

    def edge_distributions(self, maps: Sequence[Tensor],
                           call: Optional[ModuleCall]) -> List[Tensor]:
        """Read the predicted distributions of the box edges of all priors.

        Available only if the head has a ``reg_max``.

        Args:
            maps (sequence[Tensor]): Output of this detector's neck, one map
                per level.
            call (ModuleCall, optional): Recorded call of the head on these
                maps; None if the head did not run.

        Returns:
            list[Tensor]: Logits of the distances 0, 1, ..., ``reg_max`` from
            a prior to each edge, for each level (of a teacher: each level of
            its student), in the order of the rows of class logits, shape
            (N * P, 4, reg_max + 1).
        """
        raise NotImplementedError

    def reason_against_labelling(self) -> Optional[str]:
        """Explain why :meth:`label` cannot be used.

        Returns:
            str, optional: Text that follows 'the teacher FasterRCNN ...' in
            a message; None if it can be used.
        """
        return None

    @abstractmethod
    def label(self, images: Tensor, data_samples: SampleList,
              protocol: str) -> List[ClassificationSamples]:
        """Classify annotated images, and label each sample.

        Args:
            images (Tensor): Images in this detector's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images,
                with ``gt_instances``.
            protocol (str): 'train' for the samples that distillation uses,
                or 'test' for all samples that detection uses.

        Returns:
            list[ClassificationSamples]: Groups with ``labels``, without
            gradient.
        """
