"""What makes the teacher quick leaves its logits as they were."""
import copy

import pytest
import torch
import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.models.distillers.batch_norm_folding import fold_batch_norms
from tcal_det.models.head_adapters import ClassificationSamples, adapter_for
from tcal_det.registry import MODELS


@pytest.fixture
def images_and_rois():
    generator = torch.Generator().manual_seed(0)
    corner = 60 * torch.rand(40, 2, generator=generator)
    extent = 60 * torch.rand(40, 2, generator=generator)
    index = torch.arange(40).remainder(2)[:, None].float()
    images = torch.randn(2, 3, 96, 128, generator=generator)
    return images, torch.cat([index, corner, corner + extent], dim=1)


@pytest.fixture
def as_loaded(teacher_files):
    """A teacher of random BatchNorm statistics, as mmdet builds it."""

    def make(files=None):
        files = files or teacher_files()
        detector = MMDET_MODELS.build(Config.fromfile(files['config']).model)
        detector.load_state_dict(torch.load(files['checkpoint'])['state_dict'])
        return detector.requires_grad_(False).eval()

    return make


def classify(detector, images_and_rois):
    images, rois = images_and_rois
    samples = ClassificationSamples(None, rois[:, 0].long(), location=rois)
    adapter = adapter_for(detector, 'teacher')
    with torch.no_grad():
        return adapter.classify_groups(
            adapter.prepare_batch(images, []), [samples])[0]


def batch_norms(model):
    return [
        module for module in model.modules() if isinstance(module, _BatchNorm)
    ]


def test_built_teacher_gives_the_logits_of_the_plain_one(
        distiller_cfg, teacher_files, as_loaded, images_and_rois):
    files = teacher_files()
    model = MODELS.build(distiller_cfg(teacher=files))
    model.teacher.build(model)
    detector = model.teacher.detector
    assert not batch_norms(detector)
    assert not any(weight.requires_grad for weight in detector.parameters())
    expected = classify(as_loaded(files), images_and_rois)
    assert expected.std() > 0.01
    torch.testing.assert_close(
        classify(detector, images_and_rois), expected, rtol=1e-5, atol=1e-5)


def test_folding_leaves_the_given_detector_alone(as_loaded):
    detector = as_loaded()
    before = copy.deepcopy(detector.state_dict())
    assert fold_batch_norms(detector) is not detector
    for key, value in detector.state_dict().items():
        assert torch.equal(value, before[key]), key


class NormBeforeConvolution(nn.Module):
    """Registered like a convolution with a norm, called the other way."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.bn.running_mean.fill_(1.0)
        self.bn.running_var.fill_(4.0)

    def forward(self, images):
        return self.backbone(self.conv(self.bn(images)))


@pytest.mark.parametrize('has_masked_class', [False, True])
def test_misleading_order_of_registration_is_noticed(as_loaded,
                                                     has_masked_class):
    """Also where a logit is -inf, with which no difference compares."""
    detector = as_loaded()
    if has_masked_class:
        detector.roi_head.bbox_head.fc_cls.bias[1] = -torch.inf
    detector.backbone = NormBeforeConvolution(detector.backbone).eval()
    assert fold_batch_norms(detector) is detector
    assert batch_norms(detector)


def test_masked_class_does_not_keep_from_folding(as_loaded, images_and_rois):
    detector = as_loaded()
    detector.roi_head.bbox_head.fc_cls.bias[1] = -torch.inf
    folded = fold_batch_norms(detector)
    assert folded is not detector and not batch_norms(folded)
    torch.testing.assert_close(
        classify(folded, images_and_rois),
        classify(detector, images_and_rois),
        rtol=1e-5,
        atol=1e-5)


class ScaledConvolution(nn.Conv2d):
    """Makes the weight that it uses anew in each forward."""

    def forward(self, images):
        weight = self.weight / self.weight.norm()
        return nn.functional.conv2d(images, weight, self.bias)


def test_convolutions_that_make_their_weights_keep_their_norm(
        as_loaded, images_and_rois):
    detector = as_loaded()
    detector.backbone = nn.Sequential(
        ScaledConvolution(3, 3, 1), nn.BatchNorm2d(3),
        detector.backbone).eval()
    folded = fold_batch_norms(detector)
    assert folded is not detector and len(batch_norms(folded)) == 1
    torch.testing.assert_close(
        classify(folded, images_and_rois),
        classify(detector, images_and_rois),
        rtol=1e-5,
        atol=1e-5)


def test_teacher_without_batch_norm_is_not_run(as_loaded):
    detector = as_loaded()
    for parent in list(detector.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, _BatchNorm):
                setattr(parent, name, nn.GroupNorm(1, module.num_features))
    # A transformer of fixed size could not take the probe.
    detector.backbone.forward = None
    assert fold_batch_norms(detector) is detector


def test_torchvision_pools_as_mmcv_does(as_loaded, images_and_rois):
    detector = as_loaded()
    images, rois = images_and_rois
    # Empty, beyond the image, and of its whole size.
    rois = torch.cat([
        rois,
        rois.new_tensor([[0, 5, 5, 5, 5], [1, -40, -9, 300, 200],
                         [0, 0, 0, 128, 96]])
    ])
    expected = classify(detector, (images, rois))
    adapter = adapter_for(detector, 'teacher')
    adapter.prepare_as_teacher(adapter)
    torch.testing.assert_close(
        classify(detector, (images, rois)), expected, rtol=1e-5, atol=1e-6)
    assert classify(detector, (images, rois[:0])).shape == (0, 4)


def test_all_classes_masked_is_still_folded(as_loaded):
    detector = as_loaded()
    detector.roi_head.bbox_head.fc_cls.bias.fill_(-float('inf'))
    assert not batch_norms(fold_batch_norms(detector))
