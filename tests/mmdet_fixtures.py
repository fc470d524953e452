"""Tiny detectors and batches shared by the tests."""
import functools
import os

import mmengine.config.utils
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from tests.config_files import read_config

# Two processes of torch threads beside a test runner's are slower than one.
torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 2)))

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(HERE)
NUM_CLASSES = 3


@pytest.fixture(autouse=True, scope='session')
def unformatted_configs():
    """Let mmengine write and log configs without yapf.

    Formatting them took most of the time of a test that runs a tool.
    """

    def as_it_is(text, **options):
        return text, True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', as_it_is)
        # Where mmengine has imported it already.
        patch.setattr(
            'mmengine.config.config.FormatCode', as_it_is, raising=False)
        yield


@pytest.fixture(autouse=True, scope='session')
def zoo_index_that_is_read_once():
    """For each 'mmdet::' name mmengine parses the metafiles of all models."""
    load = mmengine.config.utils.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.utils.load',
                      functools.lru_cache(maxsize=None)(load))
        yield


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Start in the scope of an mmdet config, whatever test ran before.

    A Runner without ``default_scope`` leaves mmengine's behind, in which no
    registry finds tcal_det.
    """
    init_default_scope('mmdet')


@pytest.fixture(scope='session')
def golden_figures(golden):
    """Expected figures of a golden scene, by DetectionCalibrationMetric's key.

    NaN where undefined.
    """

    def read(name):
        expected = golden(f'{name}.json')['expected']
        d_ece = expected['dece_tau0.5']['conf_b10_right']
        lrp_0 = expected['lrp_tau0']['mean']
        olrp = expected['olrp_tau0.5']['mean']
        figures = dict(
            d_ece=d_ece['value'],
            d_ece_over=d_ece['over'],
            d_ece_under=d_ece['under'],
            d_ece_coverage=d_ece['coverage'],
            laece=expected['laece_tau0.1_b25']['value'],
            laece_0=expected['laece0_b25']['value'],
            laace_0=expected['laace0']['value'],
            lrp_0=lrp_0['lrp'],
            olrp=olrp['olrp'])
        for part in ('loc', 'fp', 'fn'):
            figures[f'lrp_0_{part}'] = lrp_0[part]
            figures[f'olrp_{part}'] = olrp[part]
        return {
            key: float('nan') if value is None else value
            for key, value in figures.items()
        }

    return read


@pytest.fixture
def detector_cfg():
    """Build configs of tiny Faster R-CNNs that a CPU runs in milliseconds."""

    def make(width=8, num_classes=NUM_CLASSES, **preprocessor):
        model = read_config(
            os.path.join(REPOSITORY, 'configs', '_base_', 'models',
                         'faster-rcnn_r18-half_fpn64.py')).model
        model.backbone.base_channels = width
        model.neck.in_channels = [width, 2 * width, 4 * width, 8 * width]
        model.neck.out_channels = 16
        model.rpn_head.in_channels = model.rpn_head.feat_channels = 16
        model.roi_head.bbox_roi_extractor.out_channels = 16
        model.roi_head.bbox_head.update(
            in_channels=16, fc_out_channels=32, num_classes=num_classes)
        model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
        model.train_cfg.rcnn.sampler.num = 32
        model.test_cfg.rpn.update(nms_pre=100, max_per_img=50)
        model.data_preprocessor.update(preprocessor)
        return model

    return make


@pytest.fixture
def teacher_files(tmp_path, detector_cfg):
    """Write a teacher's config and checkpoint; return ``teacher=dict(...)``.

    Its classification layer is scaled up, so that its logits say something.
    """

    def make(seed=1, name='teacher', **model):
        from mmdet.registry import MODELS
        cfg = Config(dict(model=detector_cfg(**dict(dict(width=12), **model))))
        torch.manual_seed(seed)
        detector = MODELS.build(cfg.model)
        detector.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.5)
        # Statistics of its own: with 0 and 1 a forgotten eval() would show
        # less.
        for module in detector.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        config_path = str(tmp_path / f'{name}.py')
        checkpoint_path = str(tmp_path / f'{name}.pth')
        cfg.dump(config_path)
        torch.save(dict(state_dict=detector.state_dict()), checkpoint_path)
        return dict(config=config_path, checkpoint=checkpoint_path)

    return make


@pytest.fixture
def distiller_cfg(detector_cfg, teacher_files):
    """Apply the three keys to the tiny detector."""

    def make(teacher=None, temperature=1.5, losses=None, **student):
        model = detector_cfg(**student)
        model.update(
            type='tcal_det.CalibratedTeacherDistiller',
            student_type='FasterRCNN',
            teacher=dict(
                **(teacher or teacher_files()),
                calibrator=dict(
                    type='TemperatureScaling', temperature=temperature)),
            distill_losses=losses if losses is not None else dict(
                loss_kd_cls=dict(type='LogitKLDivLoss')))
        return model

    return make


@pytest.fixture
def batch():
    """Raw data of a training step, as a dataloader gives it."""

    def make(num_images=2,
             size=(64, 96),
             num_boxes=3,
             num_classes=NUM_CLASSES,
             seed=0):
        rng = np.random.default_rng(seed)
        inputs, data_samples = [], []
        for index in range(num_images):
            # The images of a batch differ in size, so there is padding.
            height, width = size[0] - 16 * index, size[1]
            inputs.append(
                torch.from_numpy(
                    rng.integers(0, 256, (3, height, width), np.uint8)))
            corner = rng.uniform(0, 0.5, (num_boxes, 2)) * (width, height)
            extent = rng.uniform(0.3, 0.5, (num_boxes, 2)) * (width, height)
            instances = InstanceData(
                bboxes=torch.from_numpy(
                    np.hstack([corner, corner + extent]).astype('float32')),
                labels=torch.from_numpy(
                    rng.integers(0, num_classes, num_boxes)))
            ignored = InstanceData(
                bboxes=torch.zeros(0, 4),
                labels=torch.zeros(0, dtype=torch.long))
            sample = DetDataSample(
                gt_instances=instances, ignored_instances=ignored)
            sample.set_metainfo(
                dict(
                    img_shape=(height, width),
                    ori_shape=(height, width),
                    scale_factor=(1.0, 1.0),
                    img_id=index))
            data_samples.append(sample)
        return dict(inputs=inputs, data_samples=data_samples)

    return make


@pytest.fixture
def training_step(batch):
    """Losses and summed loss of one training step of a detector."""

    def step(model, seed=0, **batch_args):
        model.train()
        torch.manual_seed(seed)
        data = model.data_preprocessor(batch(**batch_args), True)
        losses = model(**data, mode='loss')
        return losses, model.parse_losses(losses)[0]

    return step
