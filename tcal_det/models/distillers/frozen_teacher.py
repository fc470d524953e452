"""A teacher detector, which is loaded and calibrated but never trained."""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import (Any, Callable, ContextManager, Dict, List, Optional,
                    Sequence, Tuple, Type, Union)

import torch
import torch.nn as nn
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.logging import MessageHub, print_log
from torch import Tensor

from tcal_det.checks import check_choice
from tcal_det.errors import InvalidTypeError, InvalidValueError
from ..calibrators import Calibrator
from ..class_correspondence import ClassCorrespondence
from ..class_matching import ClassMap, check_class_map
from ..class_names import (ClassNames, checkpoint_class_names,
                           dataset_class_names)
from ..configured_part import build_configured_part
from ..head_adapters import (HeadAdapter, ModuleCall, Observation, adapter_for,
                             recorded_calls)
from .batch_norm_folding import fold_batch_norms
from .detector_files import (build_detector, describe_config, find_detector,
                             load_weights)
from .distillation_group import BaseTeacher, DistillationGroup
from .image_normalization import ImageRenormalization
from .sample_transport import (TRANSPORT_NAMES, SameSamples, SampleTransport,
                               choose_transport)
from .teacher_check import TeacherCheck
from .teacher_compatibility import (check_calibrator, check_unnamed_classes,
                                    match_columns)
from .teacher_log import CounterpartCount, teacher_summary
from .training_step import TeacherOutput

DECODER_LAYERS = ('last', 'all')


class FrozenTeacher(BaseTeacher):
    """A detector in eval mode, without gradient, outside the module tree.

    The class is deliberately not an ``nn.Module``. As a plain attribute of
    the student, a teacher adds no parameters, no state, no DDP buckets, no
    optimizer groups and no EMA copy. :meth:`build` builds the detector at the
    start of training.

    Args:
        config (str | Config | dict): Name 'mmdet::...' of a config, path to a
            config file, or a config with the key ``model``.
        checkpoint (str): Path or URL of the weights, or 'auto' for the zoo
            weights of an 'mmdet::' config.
        calibrator (dict, optional): Config of the calibrator of the logits,
            for the teacher's own classes. Defaults to None, raw logits.
        transport (str): Way to obtain teacher logits for the student's
            samples: 'same_samples', 'rois_at_boxes', 'matched_predictions',
            'shared_queries' or 'auto'. Defaults to 'auto', the first of the
            first three that can be used.
        classes (str | dict): Pairs of a class of the teacher and the same
            class of the student's dataset, by name or label; the value None
            leaves out a class of the teacher. Classes that are not in the
            dict are paired by name. Defaults to 'auto', which pairs all
            classes by name.
        check (bool): Whether the training stops if the teacher is not better
            than chance on the first batches; otherwise a warning is logged.
            Defaults to False.
        decoder_layers (str): Decoder layers of a student with queries that
            are taught, 'last' or 'all'. Defaults to 'last'.
        sampling (dict, optional): Config of the choice of the samples that
            the teacher classifies, see ``SpeculativeSamples``. Defaults to
            None, the samples of the student.

    Raises:
        InvalidTypeError: If an argument has a wrong type.
        InvalidValueError: If an argument, or an argument of the calibrator or
            the sampling, has a wrong value.
    """

    def __init__(self,
                 config: Union[str, Config, dict],
                 checkpoint: str,
                 calibrator: Optional[dict] = None,
                 transport: str = 'auto',
                 classes: ClassMap = 'auto',
                 check: bool = False,
                 decoder_layers: str = 'last',
                 sampling: Optional[dict] = None) -> None:
        super().__init__()
        if not isinstance(config, (str, Config, Mapping)):
            raise InvalidTypeError(
                "`teacher.config` must be an 'mmdet::' name, a path, a Config "
                f'or a dict, but got {type(config).__name__}')
        if not isinstance(checkpoint, str) or not checkpoint:
            raise InvalidTypeError(
                "`teacher.checkpoint` must be 'auto', a path or a URL, but "
                f'got {checkpoint!r}')
        if not isinstance(check, bool):
            raise InvalidTypeError(
                f'`teacher.check` must be True or False, but got {check!r}')
        check_class_map(classes)
        self.config = config
        self.checkpoint = checkpoint
        self.calibrator_cfg = calibrator
        self.transport_name = check_choice('teacher.transport', transport,
                                           TRANSPORT_NAMES)
        self.class_map = classes
        self.stops_if_chance = check
        self.decoder_layers = check_choice('teacher.decoder_layers',
                                           decoder_layers, DECODER_LAYERS)
        self.sampling_cfg = sampling
        self.sampling: Any = None
        if sampling is not None:
            self.sampling = build_configured_part('teacher.sampling', sampling)
        self.calibrator: Optional[nn.Module] = None
        if calibrator is not None and not (isinstance(calibrator, Mapping)
                                           and 'load_from' in calibrator):
            # Parameters in the config are checked at once. A file is read at
            # the start of training, because testing does not need it.
            self.calibrator = self._build_calibrator()
        self.adapter: Optional[HeadAdapter] = None
        self.transport: Optional[SampleTransport] = None
        # Set with the first batch.
        self.classes: Optional[ClassCorrespondence] = None
        self._student: Optional[HeadAdapter] = None
        self._class_names: Optional[ClassNames] = None
        self._renormalize: Optional[ImageRenormalization] = None
        self._check: Optional[TeacherCheck] = None
        self._counterparts: Optional[CounterpartCount] = None
        # Whether a loss uses its logits.
        self.needs_logits = True
        self._parts: Tuple[str, ...] = ()

    def set_outputs(self, needs_logits: bool, parts: Sequence[str]) -> None:
        """Set which outputs of this teacher the losses use.

        Args:
            needs_logits (bool): Whether the losses use logits for the
                student's samples. If False, the teacher only extracts
                features, and need not share the student's samples or classes.
            parts (sequence[str]): Names of those of ``HeadAdapter.parts``
                whose calls are recorded.
        """
        self.needs_logits, self._parts = needs_logits, tuple(parts)

    def __reduce__(self) -> tuple:
        # An EMA copy or a pickle of the student must not contain the teacher.
        # If the copy is trained, it builds its own teacher.
        return FrozenTeacher, (self.config, self.checkpoint,
                               self.calibrator_cfg, self.transport_name,
                               self.class_map, self.stops_if_chance,
                               self.decoder_layers, self.sampling_cfg), dict(
                                   needs_logits=self.needs_logits,
                                   _parts=self._parts)

    def _build_calibrator(self) -> nn.Module:
        if self.calibrator_cfg is None:
            return nn.Identity()
        return build_configured_part('teacher.calibrator', self.calibrator_cfg)

    @property
    def is_built(self) -> bool:
        return self.adapter is not None

    @property
    def detector(self) -> Optional[nn.Module]:
        return None if self.adapter is None else self.adapter.detector

    def build(self, student: nn.Module) -> None:
        """Build and load the teacher, and check that it can teach a student.

        Args:
            student (nn.Module): Student detector. It determines the device,
                the samples, and the normalisation of the images.

        Raises:
            MissingFileError: If config or checkpoint does not exist.
            InvalidTypeError: If the head of the teacher cannot be read.
            InvalidValueError: If the config has no ``model``, the checkpoint
                does not fit the config, or the teacher cannot teach this
                student.
        """
        cfg, checkpoint = find_detector(self.config, self.checkpoint)
        # The random initialisation of the teacher, which is overwritten, must
        # not change the random numbers of the student's training.
        with torch.random.fork_rng(devices=[]):
            detector = build_detector(cfg)
        adapter = adapter_for(detector, 'teacher')
        self._student = adapter_for(student, 'student')
        if self.decoder_layers == 'all' and not self._student.uses_queries:
            raise InvalidValueError(
                "`teacher.decoder_layers='all'` is for students with "
                f'queries, but the student {self._student.name} classifies '
                f'{self._student.sample_name}: leave it out')
        transport = None
        if self.needs_logits:
            transport = choose_transport(self._student, adapter,
                                         self.transport_name)
        if self.sampling is not None:
            self.sampling.check(self._student, adapter, transport)
        if self.calibrator is None:
            self.calibrator = self._build_calibrator()
        if isinstance(self.calibrator, Calibrator):
            check_calibrator(self.calibrator, adapter)
        self._class_names = checkpoint_class_names(
            load_weights(detector, checkpoint))
        if (self._class_names is not None
                and len(self._class_names) != adapter.num_classes):
            self._class_names = None
        if self._class_names is None and self.needs_logits:
            check_unnamed_classes(self._student, adapter, self.class_map,
                                  self.checkpoint)
        detector.requires_grad_(False).eval()
        self._renormalize = ImageRenormalization(student.data_preprocessor,
                                                 detector.data_preprocessor)
        print_log(self._summary(adapter, checkpoint, transport), 'current')
        device = next(student.parameters()).device
        self.adapter = adapter_for(
            fold_batch_norms(detector.to(device)), 'teacher')
        self.adapter.prepare_as_teacher(self._student)
        if transport is not None:
            self.transport = transport(self._student, self.adapter,
                                       self.decoder_layers)
            if self.sampling is not None:
                self.transport = self.sampling.transport(
                    self._student, self.adapter, self.transport)
            self._check = TeacherCheck(
                has_background=self._student.activation == 'softmax',
                sample_name=self._student.sample_name,
                stops=self.stops_if_chance)
            self._counterparts = CounterpartCount(self._student.sample_name)
        self.calibrator.to(device).requires_grad_(False).eval()

    def _summary(self, adapter: HeadAdapter, checkpoint: str,
                 transport: Optional[Type[SampleTransport]]) -> str:
        calibrator = ('none, raw logits'
                      if self.calibrator_cfg is None else self.calibrator)
        if transport is None:
            how = 'none, only its features are used'
        elif self.sampling is None:
            how = transport.name
        else:
            how = f'{transport.name}, {self.sampling}'
        return teacher_summary(
            adapter,
            self._class_names,
            config=describe_config(self.config),
            checkpoint=checkpoint,
            calibrator=str(calibrator),
            transport=how)

    def prepare_batch(self, images: Tensor,
                      data_samples: SampleList) -> 'PreparedBatch':
        """Process a batch before the student has chosen its samples.

        Args:
            images (Tensor): Images in the student's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            PreparedBatch: Intermediate results, for :meth:`classify_samples`.

        Raises:
            InvalidValueError: In the first step, if the teacher shares no
                class with the train dataset of the run.
        """
        if self.classes is None and self.needs_logits:
            # mmengine's RuntimeInfoHook writes it when training starts.
            metainfo = MessageHub.get_current_instance().get_info(
                'dataset_meta')
            self.classes = match_columns(self._student, self.adapter,
                                         dataset_class_names(metainfo),
                                         self._class_names, self.class_map)
        with torch.no_grad(), self._recorded() as calls:
            images = self._renormalize(images, data_samples)
            transport_data = None
            if self.needs_logits:
                transport_data = self.transport.prepare_batch(
                    images, data_samples)
            else:
                # The features that the losses use are recorded.
                self.detector.extract_feat(images)
        return PreparedBatch(images, transport_data, calls)

    def _recorded(self) -> ContextManager[Dict[str, ModuleCall]]:
        parts = self.adapter.parts
        return recorded_calls(
            {name: parts[name]
             for name in self._parts if name in parts})

    def classify_samples(self, prepared: 'PreparedBatch',
                         observation: Observation) -> List[DistillationGroup]:
        """Compute calibrated logits for the student's samples.

        Args:
            prepared (PreparedBatch): Return value of :meth:`prepare_batch`
                for this batch.
            observation (Observation): Samples that the student classified.

        Returns:
            list[DistillationGroup]: Logits without gradient, for each group
            of samples that is distilled.

        Raises:
            InvalidValueError: If ``check`` is set and the teacher is not
                better than chance in the first steps.
        """
        if not self.needs_logits:
            return []
        with self._recorded() as calls:
            distill_groups = list(
                self.transport.classify_samples(prepared.transport_data,
                                                observation,
                                                self._convert_logits,
                                                self.classes))
        prepared.calls.update(calls)
        if self._check is not None:
            self._check.observe(distill_groups)
            if self._check.is_finished:
                self._check = None
        if self._counterparts is not None:
            self._counterparts.observe(distill_groups, observation)
            if self._counterparts.is_finished:
                self._counterparts = None
        self._record(distill_groups)
        return distill_groups

    def classify_images(self, images: Tensor, data_samples: SampleList,
                        observation: Observation) -> List[DistillationGroup]:
        """Compute calibrated logits for other images, without recording them.

        Available only if ``has_same_samples``.

        Args:
            images (Tensor): Images in the student's normalisation, of the
                size of the batch, shape (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of the batch.
            observation (Observation): Samples of the student, with its
                logits for these images.

        Returns:
            list[DistillationGroup]: Logits for each group.
        """
        with torch.no_grad():
            transport_data = self.transport.prepare_batch(
                self._renormalize(images, data_samples), data_samples)
        return list(
            self.transport.classify_samples(transport_data, observation,
                                            self._convert_logits,
                                            self.classes))

    def compute_outputs(
            self, prepared: 'PreparedBatch',
            observation: Observation) -> Dict[Optional[str], TeacherOutput]:
        """Run :meth:`classify_samples` and return all data of this teacher.

        Args:
            prepared (PreparedBatch): Return value of :meth:`prepare_batch`
                for this batch.
            observation (Observation): Samples that the student classified.

        Returns:
            dict[str, TeacherOutput]: Data of this teacher under the key None,
            for losses that name no teacher.
        """
        distill_groups = self.classify_samples(prepared, observation)
        return {
            None:
            TeacherOutput(distill_groups, self, prepared.images,
                          prepared.calls)
        }

    @torch.no_grad()
    def score_maps(self, maps: Sequence[Tensor],
                   calls: Dict[str, ModuleCall]) -> List[Tensor]:
        """Compute calibrated scores at each position of the feature maps.

        Args:
            maps (sequence[Tensor]): Output of this teacher's neck, one map
                per level.
            calls (dict[str, ModuleCall]): Recorded calls of this teacher's
                modules on these maps.

        Returns:
            list[Tensor]: Scores for each level, shape (N, 1, H, W).
        """
        return self.adapter.score_maps(maps, calls.get('dense_head'),
                                       self.calibrator)

    @property
    def has_same_samples(self) -> bool:
        """Whether it classifies exactly the samples of its student."""
        return isinstance(self.transport, SameSamples)

    @property
    def calibrates_own_samples(self) -> bool:
        """Whether the calibrator's input has the rows and columns of a group.

        Only then can the two be compared. True at the earliest after the
        first batch.
        """
        return (self.has_same_samples and self.classes is not None
                and self.classes.is_identity)

    @property
    def classifies_student_samples(self) -> bool:
        """Whether it classifies the samples of the student's own loss."""
        return self.transport.classifies_student_samples

    def can_be_mixed_with(self, other: 'FrozenTeacher') -> bool:
        """Check whether two teachers share classes and samples.

        Args:
            other (FrozenTeacher): Another teacher. Both must have processed a
                batch.
        """
        return (self.classes.student_labels == other.classes.student_labels
                and self.classifies_student_samples
                and other.classifies_student_samples)

    def convert_logits(self, logits: Tensor) -> Tensor:
        """Calibrate logits and convert them for the student.

        Args:
            logits (Tensor): Logits of this teacher, shape (S, C).

        Returns:
            Tensor: Logits of the shared classes for the student's
            activation, with the graph of the input, if there is one.
        """
        return self.classes.of_teacher(self.calibrator(logits))

    @torch.no_grad()
    def _convert_logits(self, logits: Tensor) -> Tensor:
        return self.convert_logits(logits)

    def apply_to_tensors(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Apply a function of ``nn.Module._apply`` to all tensors.

        The teacher thereby follows the student to another device or dtype.

        Args:
            fn (callable): Function that converts a tensor.
        """
        if self.is_built:
            self.detector._apply(fn)
            self.calibrator._apply(fn)


@dataclass
class PreparedBatch:
    """Results of a teacher for a batch, before the student's loss.

    Attributes:
        images (Tensor): Images in the teacher's normalisation, shape
            (N, 3, H, W).
        transport_data (Any): Intermediate results of its transport; None if
            no loss uses its logits.
        calls (dict[str, ModuleCall]): Recorded calls of its modules.
    """
    images: Tensor
    transport_data: Any
    calls: Dict[str, ModuleCall]
