"""Models, images and optimizers of a case, equal for every variant."""
import copy
import os.path as osp
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from tcal_det.models.distillers.detector_files import find_detector
from tcal_det.models.head_adapters import ClassificationSamples, adapter_for
from tcal_det.registry import MODELS

OBJECTS_PER_IMAGE = 8
# Weights must stay finite: random weights diverge at a real learning rate.
LEARNING_RATE = 1e-6
# Parameters that replace calibrators that a config reads from a file.
FITTED = dict(PlattScaling=dict(scale=2.0, bias=1.0))
DISTILLER_KEYS = ('type', 'student_type', 'teacher', 'distill_losses')
# Function from the number of a batch to the timed function of that batch.
Step = Callable[[int], Callable[[], Any]]


@dataclass(frozen=True)
class Case:
    """Settings of one measurement.

    Attributes:
        config (str): Path to the config of a distiller, whose teacher and
            student are both Faster R-CNNs or both one-stage detectors.
        image_size (tuple[int, int]): Height and width in pixels.
        batch_size (int): Number of images per step.
        rois_per_image (int): Number of RoIs that a two-stage student samples.
            Defaults to 512.
        num_classes (int): Number of classes without background. Defaults
            to 80.
        num_teachers (int): Number of teachers of equal size, whose mixture is
            learned. Defaults to 1.
        device (str): Device of the models, 'cpu' or 'cuda'. Defaults to
            'cpu'.
        amp (bool): Whether mixed precision is used, on CUDA only. Defaults
            to False.
    """
    config: str
    image_size: Tuple[int, int]
    batch_size: int
    rois_per_image: int = 512
    num_classes: int = 80
    num_teachers: int = 1
    device: str = 'cpu'
    amp: bool = False


class Workload:
    """Builder of the models and batches of a variant.

    Equal calls give equal weights. The weights are random: the time of a step
    does not depend on them, and nothing is downloaded.

    Args:
        case (Case): Case to measure.

    Attributes:
        logit_bytes (int, optional): Size of the student's logits in bytes;
            None before :meth:`samples_of`.
    """

    def __init__(self, case: Case) -> None:
        init_default_scope('mmdet')
        self.case = case
        self.logit_bytes: Optional[int] = None
        self._batches: Dict[int, Dict[str, list]] = {}
        self.distiller_cfg = Config.fromfile(case.config).model
        teacher, _ = find_detector(
            self.distiller_cfg.teacher.config, checkpoint='random')
        self.teacher_cfg = copy.deepcopy(teacher['model'])
        for cfg in (self.distiller_cfg, self.teacher_cfg):
            cfg.backbone.init_cfg = None
            heads = cfg.get('bbox_head') or cfg.roi_head.bbox_head
            for head in heads if isinstance(heads, list) else [heads]:
                head.num_classes = case.num_classes
            if self.is_dense:
                continue
            stages = cfg.train_cfg.rcnn
            for stage in stages if isinstance(stages, list) else [stages]:
                stage.sampler.num = case.rois_per_image
            # The sampler needs enough proposals.
            cfg.train_cfg.rpn_proposal.max_per_img = max(
                cfg.train_cfg.rpn_proposal.max_per_img,
                2 * case.rois_per_image)
        calibrator = self.distiller_cfg.teacher.get('calibrator') or {}
        if 'load_from' in calibrator:
            # The file would have to be fitted to a trained teacher.
            self.distiller_cfg.teacher.calibrator = dict(
                type=calibrator.type, **FITTED[calibrator.type])

    @property
    def is_dense(self) -> bool:
        """Whether the student classifies priors instead of RoIs."""
        return 'bbox_head' in self.distiller_cfg

    def student(self) -> BaseModel:
        """Build the plain student in training mode."""
        cfg = {
            key: value
            for key, value in self.distiller_cfg.items()
            if key not in DISTILLER_KEYS
        }
        return self._trainable(
            dict(cfg, type=self.distiller_cfg.student_type, _scope_='mmdet'))

    def distiller(self) -> BaseModel:
        """Build the CalibratedTeacherDistiller of the student and teacher."""
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = osp.join(folder, 'teacher.pth')
            torch.save(self.teacher().state_dict(), checkpoint)
            teacher = dict(
                self.distiller_cfg.teacher,
                config=dict(model=self.teacher_cfg),
                checkpoint=checkpoint)
            if self.case.num_teachers > 1:
                teacher = {
                    f'teacher_{index}': teacher
                    for index in range(self.case.num_teachers)
                }
            model = self._trainable(dict(self.distiller_cfg, teacher=teacher))
            model.teacher.build(model)
        return model

    def teacher(self) -> BaseModel:
        """Build the teacher in evaluation mode, without gradient."""
        torch.manual_seed(1)
        detector = MODELS.build(dict(self.teacher_cfg, _scope_='mmdet'))
        return detector.to(self.case.device).requires_grad_(False).eval()

    def _trainable(self, cfg: Dict[str, Any]) -> BaseModel:
        torch.manual_seed(0)
        return MODELS.build(cfg).to(self.case.device).train()

    def training_step(self, model: BaseModel) -> Step:
        """Prepare forward, backward and optimizer step of the runner.

        Args:
            model (BaseModel): Model in training mode.

        Returns:
            Step: Function from the number of a batch to its training step.
        """
        wrapper = AmpOptimWrapper if self.case.amp else OptimWrapper
        optimizer = wrapper(
            optimizer=torch.optim.SGD([
                weight for weight in model.parameters() if weight.requires_grad
            ],
                                      LEARNING_RATE,
                                      momentum=0.9,
                                      weight_decay=1e-4))

        def prepare(seed: int) -> Callable[[], dict]:
            batch = self.batch(seed)

            def step() -> dict:
                # Every variant samples the same RoIs.
                torch.manual_seed(seed)
                return model.train_step(batch, optimizer)

            return step

        return prepare

    def batch(self, seed: int) -> Dict[str, list]:
        """Return random images with random objects.

        The sides of an object are 1/20 to 1/3 of the image's sides. Each
        batch is made only once.

        Args:
            seed (int): Number of the batch.

        Returns:
            dict[str, list]: Batch of a dataloader, with the keys ``inputs``
            and ``data_samples``.
        """
        if seed not in self._batches:
            self._batches[seed] = self._make_batch(seed)
        return self._batches[seed]

    def _make_batch(self, seed: int) -> Dict[str, list]:
        case = self.case
        generator = torch.Generator().manual_seed(seed)
        size = torch.tensor(case.image_size[::-1], dtype=torch.float32)
        inputs, data_samples = [], []
        for _ in range(case.batch_size):
            extent = size * torch.empty(OBJECTS_PER_IMAGE, 2).uniform_(
                1 / 20, 1 / 3, generator=generator)
            corner = (size - extent) * torch.rand(
                OBJECTS_PER_IMAGE, 2, generator=generator)
            labels = torch.randint(
                0,
                case.num_classes, (OBJECTS_PER_IMAGE, ),
                generator=generator)
            sample = DetDataSample(
                gt_instances=InstanceData(
                    bboxes=torch.cat([corner, corner + extent], dim=1),
                    labels=labels))
            sample.set_metainfo(
                dict(img_shape=case.image_size, scale_factor=(1.0, 1.0)))
            inputs.append(
                torch.randint(
                    0,
                    256, (3, *case.image_size),
                    dtype=torch.uint8,
                    generator=generator))
            data_samples.append(sample)
        return dict(inputs=inputs, data_samples=data_samples)

    def samples_of(self, student: BaseModel,
                   seed: int) -> Tuple[Tensor, List[ClassificationSamples]]:
        """Return normalised images and the samples that a student classifies.

        Args:
            student (BaseModel): Student in training mode.
            seed (int): Number of the batch.

        Returns:
            tuple[Tensor, list[ClassificationSamples]]: Images, shape
            (N, 3, H, W), and the groups of samples.
        """
        data = student.data_preprocessor(self.batch(seed), True)
        torch.manual_seed(seed)
        with adapter_for(student, 'student').observe() as observation, \
                torch.no_grad(), self.autocast():
            student(**data, mode='loss')
        self.logit_bytes = sum(group.logits.numel() *
                               group.logits.element_size()
                               for group in observation.groups)
        return data['inputs'], observation.groups

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Apply the autocast of AmpOptimWrapper, if the case uses it."""
        with torch.autocast(self.case.device, enabled=self.case.amp):
            yield
