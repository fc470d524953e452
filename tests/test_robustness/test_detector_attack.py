"""Attacks on the losses of tiny detectors of every family."""
import copy

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from tcal_det.errors import InvalidTypeError
from tcal_det.registry import MODELS
from tcal_det.robustness.detector_attack import (AttackedBatches, check_losses,
                                                 content_mask, detector_loss,
                                                 prepared_for_loss)
from tcal_det.robustness.options import ATTACKS
from tcal_det.teachers.detections import collect_detections
from tests import dense_cases, head_families, query_cases, roi_cases

FAMILIES = sorted(head_families.FAMILIES)
# Heads and detectors that do otherwise in testing.
DENSE = ('FCOSHead', 'VFNetHead', 'CenterNetUpdateHead', 'RepPointsHead',
         'TOODHead')
QUERY = ('DINO', 'TwoStageDeformableDETR', 'DDQDETR')
ROI = ('trident', 'guided_anchors', 'fcos_rpn', 'mask')


def build(family, edit=None):
    cfg = head_families.detector_cfg(family)
    if edit is not None:
        edit(cfg)
    return head_families.build(cfg, MMDET_MODELS).eval()


def attacked_images(detector, batches, attack='pgd', epsilon=4.0, seed=0):
    loader = AttackedBatches(batches, detector, attack, epsilon, seed)
    return [image for data in loader for image in data['inputs']]


def loss_at(detector, images, samples):
    with prepared_for_loss(detector), torch.no_grad():
        return detector_loss(detector, images, samples).item()


class TestLoss:
    """What the attack climbs is what training descends."""

    @staticmethod
    def training_loss(detector, images, samples):
        """In training but for norms and dropout, with plain mmengine."""
        detector = copy.deepcopy(detector).train()
        for module in detector.modules():
            if isinstance(module,
                          (_BatchNorm, _DropoutNd, nn.MultiheadAttention)):
                module.eval()
        torch.manual_seed(0)
        losses = detector.loss(images, copy.deepcopy(samples))
        return detector.parse_losses(losses)[0].item()

    def check(self, detector, images, samples):
        expected = self.training_loss(detector, images, samples)
        detector.eval()
        with prepared_for_loss(detector):
            torch.manual_seed(0)
            losses = detector.loss(images, copy.deepcopy(samples))
            assert detector.parse_losses(losses)[0].item() == pytest.approx(
                expected, rel=1e-5)
        assert not any(module.training for module in detector.modules())

    @pytest.mark.parametrize('name', DENSE)
    def test_dense_heads(self, name):
        # TOOD reads it; the training is over.
        MessageHub.get_current_instance().update_info('epoch', 100)
        self.check(
            dense_cases.build(dense_cases.tiny_model(name)),
            *dense_cases.batch(name))

    @pytest.mark.parametrize('name', QUERY)
    def test_detectors_with_queries(self, name):
        self.check(
            query_cases.build(query_cases.tiny_model(name)),
            *query_cases.batch(name))

    @pytest.mark.parametrize('name', ROI)
    def test_roi_heads(self, name):
        detector = roi_cases.build_detector(roi_cases.case_cfg(name))
        data = detector.data_preprocessor(roi_cases.raw_batch(), False)
        self.check(detector, data['inputs'], data['data_samples'])

    def test_detector_is_as_it_was(self, batches):
        """Also if something goes wrong; a part that is frozen stays so."""
        detector = build('faster')
        frozen = detector.backbone.conv1.weight
        frozen.requires_grad_(False)
        detector.roi_head.train()
        state = copy.deepcopy(detector.state_dict())
        flags = [module.training for module in detector.modules()]
        hub = MessageHub.get_current_instance()
        hub.update_info('epoch', 3)
        with pytest.raises(KeyboardInterrupt), prepared_for_loss(detector):
            assert not any(one.requires_grad for one in detector.parameters())
            assert hub.get_info('epoch') > 1000
            for buffer in detector.buffers():
                buffer.add_(1)
            raise KeyboardInterrupt
        assert [one for one in detector.parameters()
                if not one.requires_grad] == [frozen]
        assert [module.training for module in detector.modules()] == flags
        assert hub.get_info('epoch') == 3
        for key, value in detector.state_dict().items():
            assert torch.equal(value, state[key]), key


class TestAttack:

    @pytest.mark.parametrize('attack', ATTACKS)
    @pytest.mark.parametrize('family', FAMILIES)
    def test_epsilon_0_is_clean_bit_for_bit(self, family, attack, batches):
        detector, batches = build(family), batches[:1]
        clean = collect_detections(detector, batches, 3)
        attacked = collect_detections(
            detector, AttackedBatches(batches, detector, attack, 0.0, 0), 3)
        assert len(clean.detections) > 0
        for part in ('ground_truth', 'detections'):
            for name, values in vars(getattr(clean, part)).items():
                other = getattr(getattr(attacked, part), name)
                assert np.array_equal(values, other), name

    def test_detector_with_queries(self, batches):
        """DINO, whose denoising queries are drawn anew in every loss."""
        detector = query_cases.build(query_cases.tiny_model('DINO')).eval()
        batches = batches[:1]
        clean, same, other = (
            collect_detections(detector, one, 4)
            for one in (batches,
                        AttackedBatches(batches, detector, 'fgsm', 0.0, 0),
                        AttackedBatches(batches, detector, 'fgsm', 8.0, 0)))
        assert np.array_equal(clean.detections.boxes, same.detections.boxes)
        assert np.array_equal(clean.detections.scores, same.detections.scores)
        assert not np.array_equal(clean.detections.scores,
                                  other.detections.scores)
        attacked = attacked_images(detector, batches, 'fgsm', 8.0)
        assert all(
            map(torch.equal, attacked,
                attacked_images(detector, batches, 'fgsm', 8.0)))
        torch.manual_seed(0)
        before = loss_at(detector, batches[0]['inputs'],
                         batches[0]['data_samples'])
        torch.manual_seed(0)
        assert loss_at(detector, attacked, batches[0]['data_samples']) > before

    @pytest.mark.parametrize('family', FAMILIES)
    def test_loss_rises_with_epsilon(self, family, batches):
        detector, data = build(family), batches[0]
        images = [
            data['inputs'],
            *(attacked_images(detector, batches[:1], 'pgd', epsilon)
              for epsilon in (2.0, 8.0))
        ]
        losses = [
            loss_at(detector, one, data['data_samples']) for one in images
        ]
        assert losses[0] < losses[1] < losses[2]

    def test_fgsm_is_a_step_along_the_sign_of_the_gradient(self, batches):
        """Of normalised images, which have the sign of the raw ones."""
        detector = build('retinanet')
        data = batches[0]
        attacked = attacked_images(detector, batches, 'fgsm', 2.0)
        normalised = detector.data_preprocessor(copy.deepcopy(data), False)
        inputs = normalised['inputs'].requires_grad_()
        losses = copy.deepcopy(detector).train(False).loss(
            inputs, normalised['data_samples'])
        gradient, = torch.autograd.grad(
            detector.parse_losses(losses)[0], inputs)
        if detector.data_preprocessor._channel_conversion:
            gradient = gradient.flip(1)
        for index, image in enumerate(data['inputs']):
            height, width = image.shape[1:]
            step = gradient[index, :, :height, :width].sign()
            expected = (image + 2 * step).clamp(0, 255)
            assert torch.equal(attacked[index], expected)

    def test_repeats_whatever_was_drawn_before(self, batches):
        """Samplers that choose, and a random start."""

        def few_samples(cfg):
            cfg.train_cfg.rcnn.sampler.num = 8
            cfg.train_cfg.rpn.sampler.num = 8

        detector, batches = build('faster', few_samples), batches[:1]
        torch.manual_seed(1)
        first = attacked_images(detector, batches)
        state = torch.get_rng_state()
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        second = attacked_images(detector, batches)
        assert all(map(torch.equal, first, second))
        other = attacked_images(detector, batches, seed=1)
        assert not all(map(torch.equal, first, other))

    def test_nothing_is_left_behind(self, batches):
        detector = build('faster')
        state = copy.deepcopy(detector.state_dict())
        inputs = [one.clone() for data in batches for one in data['inputs']]
        attacked_images(detector, batches, 'fgsm')
        for key, value in detector.state_dict().items():
            assert torch.equal(value, state[key]), key
        assert all(one.grad is None for one in detector.parameters())
        assert all(
            map(torch.equal, inputs,
                (one for data in batches for one in data['inputs'])))

    def test_batch_padding_is_not_changed(self, batches):
        detector = build('retinanet')
        loader = AttackedBatches(batches, detector, 'pgd', 8.0, 0)
        clean, attacked = (
            detector.data_preprocessor(copy.deepcopy(next(iter(one))),
                                       False)['inputs']
            for one in (batches, loader))
        height = batches[0]['inputs'][1].shape[1]
        assert height < clean.shape[2]
        assert torch.equal(clean[1, :, height:], attacked[1, :, height:])
        assert not torch.equal(clean[1, :, :height], attacked[1, :, :height])

    def test_padding_of_the_pipeline_is_not_changed(self, batches):
        """An image of 40 x 80 at 0.8 of its size, padded to 64 x 96."""
        data = batches[0]
        data['data_samples'][0].set_metainfo(
            dict(ori_shape=(50, 100), scale_factor=(0.8, 0.8)))
        attacked = attacked_images(
            build('retinanet'), batches[:1], 'pgd', 8.0)[0]
        changed = (attacked != data['inputs'][0]).any(dim=0)
        assert changed[:40, :80].float().mean() > 0.9
        assert not changed[40:].any() and not changed[:, 80:].any()

    def test_content_mask(self):
        image, sample = torch.zeros(3, 8, 10), DetDataSample()
        assert content_mask(image, sample).all()
        # Halves are rounded as Resize rounds them, and what was cut away is
        # not missed.
        sample.set_metainfo(dict(ori_shape=(100, 30), scale_factor=(0.2, 0.1)))
        mask = content_mask(image, sample)
        assert mask[0, :, :6].all() and not mask[0, :, 6:].any()

    def test_student_is_attacked_as_the_plain_detector(self, batches,
                                                       tmp_path):
        """No teacher is built; a student without losses is the detector."""
        teacher = head_families.write_teacher(tmp_path, 'faster')
        cfg = head_families.distiller_cfg('faster', teacher)
        cfg.distill_losses = {}
        student = head_families.build(cfg, MODELS).eval()
        plain, attacked = (
            attacked_images(one, batches[:1])
            for one in (build('faster'), student))
        assert all(map(torch.equal, plain, attacked))
        assert not student.teacher.is_built


class TestCheck:

    def test_passes(self, batches):
        check_losses(build('gfl'), batches)

    def test_without_assigner(self, batches):
        detector = build('retinanet', lambda cfg: cfg.pop('train_cfg'))
        with pytest.raises(
                InvalidTypeError, match='leave the attacks out with') as error:
            check_losses(detector, batches)
        assert '`model.train_cfg`' in str(error.value)
        assert not any(module.training for module in detector.modules())

    def test_backbone_that_recomputes(self, batches):
        detector = build('retinanet')
        for layer in detector.backbone.layer1:
            layer.with_cp = True
        check_losses(detector, batches)
        assert all(layer.with_cp for layer in detector.backbone.layer1)

    def test_leaves_the_images_of_the_loader(self, batches):
        image = torch.zeros(3, 64, 96)
        data = dict(next(iter(batches)))
        data['inputs'] = [image] * len(data['inputs'])
        check_losses(build('retinanet'), [data])
        assert not image.requires_grad

    def test_boxes_that_lie_elsewhere(self, batches):
        data = next(iter(batches))
        data['data_samples'][0].set_metainfo(dict(border=[12, 52, 7, 57]))
        with pytest.raises(InvalidTypeError, match='--attacks none'):
            check_losses(build('retinanet'), [data])
