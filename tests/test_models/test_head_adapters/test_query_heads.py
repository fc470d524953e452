"""Every detector with queries of mmdet as student and teacher."""
import copy
from unittest import mock

import pytest
import torch
import torch.nn as nn
from mmdet.models.losses import QualityFocalLoss
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.distillers.batch_norm_folding import fold_batch_norms
from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.head_adapters.object_assignment import assign_objects
from tests import dense_cases
from tests.query_cases import (DETECTORS, NUM_CLASSES, NUM_LAYERS, NUM_QUERIES,
                               OF_DETR, assert_same_training, batch, build,
                               distiller, kd_loss, own_layer_losses,
                               tiny_model)
from tests.roi_cases import num_hooks

EVERY = pytest.mark.parametrize('name', DETECTORS)
# Of each way to choose and to refine queries.
SOME = pytest.mark.parametrize(
    'name', ['DETR', 'DABDETR', 'DeformableDETR', 'DDQDETR', 'SparseRCNN'])


def observed(name, detector=None, seed=0):
    """Losses of a step and what the adapter saw of it."""
    detector = detector or build(tiny_model(name))
    images, data_samples = batch(name, seed=seed)
    torch.manual_seed(seed)
    with adapter_for(detector, 'student').observe(data_samples) as observation:
        losses = detector.loss(images, data_samples)
    return losses, observation


@pytest.mark.parametrize('name', OF_DETR)
def test_samples_are_the_queries_that_are_matched(name):
    detector = build(tiny_model(name))
    outputs = []
    detector.bbox_head.register_forward_hook(
        lambda _, args, output: outputs.extend(output))
    _, observation = observed(name, detector)
    # Denoising queries come first, DDQ's dense ones last.
    num_dense = int(1.5 * NUM_QUERIES) if name == 'DDQDETR' else 0
    total = outputs[0].shape[2]
    first = total - num_dense - NUM_QUERIES
    assert (first > 0) == (name in ('DINO', 'DDQDETR'))
    assert len(observation.groups) == NUM_LAYERS
    for layer, group in enumerate(observation.groups):
        assert group.stage == layer and group.group_weight == 1
        logits = outputs[0][layer][:, first:first + NUM_QUERIES]
        assert torch.equal(group.logits, logits.flatten(0, 1)[group.location])
        assert group.logits.requires_grad
        assert torch.equal(
            group.image_index,
            torch.arange(2).repeat_interleave(NUM_QUERIES)[group.location])
        if name != 'DDQDETR' or layer == 0:
            assert torch.equal(group.location, torch.arange(2 * NUM_QUERIES))
    assert observation.features[0].shape[0] == 2


def test_duplicates_of_ddq_are_no_samples():
    _, observation = observed('DDQDETR')
    sizes = [len(group.logits) for group in observation.groups]
    assert sizes[0] == 2 * NUM_QUERIES > sizes[-1] > 0


@EVERY
@pytest.mark.parametrize('num_objects', [(3, 2), (0, 2)])
def test_own_loss_is_that_of_the_samples(name, num_objects):
    """Pins logits, labels, weights and the divisor of each layer at once."""
    detector = build(tiny_model(name))
    images, data_samples = batch(name, num_objects)
    adapter = adapter_for(detector, 'student')
    with adapter.observe(data_samples) as observation:
        losses = detector.loss(images, data_samples)
    for group, logged in zip(observation.groups, own_layer_losses(losses)):
        own = group.group_weight * adapter.loss_cls(
            group.logits,
            group.labels,
            group.weight,
            avg_factor=group.avg_factor)
        assert logged.item() > 0.1
        torch.testing.assert_close(own, logged)
        assert (group.labels < NUM_CLASSES).sum() == sum(num_objects)


@pytest.mark.parametrize('name', ['DeformableDETR', 'DINO'])
def test_quality_focal_loss(name):
    cfg = tiny_model(name)
    cfg.bbox_head.loss_cls = ConfigDict(
        type='QualityFocalLoss', use_sigmoid=True, beta=2.0)
    detector = build(cfg)
    adapter = adapter_for(detector, 'student')
    assert adapter.scores_iou and isinstance(adapter.loss_cls,
                                             QualityFocalLoss)
    losses, observation = observed(name, detector)
    for group, logged in zip(observation.groups, own_layer_losses(losses)):
        torch.testing.assert_close(
            adapter.loss_cls(
                group.logits, (group.labels, group.quality),
                group.weight,
                avg_factor=group.avg_factor), logged)
        assert (group.quality > 0).any()
        assert (group.labels[group.quality > 0] < NUM_CLASSES).all()


@EVERY
def test_boxes_and_logits_are_those_that_it_predicts(name):
    """Of each layer, in training and in testing, for the padded image too."""
    detector = build(tiny_model(name))
    _, observation = observed(name, detector)
    detector.eval()
    images, data_samples = batch(name)
    with torch.no_grad():
        layers = adapter_for(detector, 'teacher').predict(images, data_samples)
    boxes = observation.boxes()
    assert len(layers) == len(boxes) == NUM_LAYERS
    for group, places, layer in zip(observation.groups, boxes, layers):
        assert layer.are_unique and not places.requires_grad
        assert group.image_index.bincount().tolist() == [
            len(one) for one in layer.boxes
        ]
        torch.testing.assert_close(
            places, torch.cat(layer.boxes), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(
            group.logits.detach(),
            torch.cat(layer.logits),
            rtol=1e-4,
            atol=1e-4)


@EVERY
def test_last_predictions_are_the_detections(name):
    detector = build(tiny_model(name)).eval()
    images, data_samples = batch(name)
    adapter = adapter_for(detector, 'teacher')
    with torch.no_grad():
        predicted = adapter.predict(images, data_samples)[-1]
        found = detector.predict(
            images, copy.deepcopy(data_samples), rescale=False)
    for boxes, logits, sample in zip(predicted.boxes, predicted.logits, found):
        detections = sample.pred_instances
        assert len(detections) == NUM_QUERIES
        if adapter.activation == 'softmax':
            # DETR takes the best class of each query.
            scores, labels = logits.softmax(dim=1)[:, :-1].max(dim=1)
            rows = scores.argsort(descending=True)
            scores, labels = scores[rows], labels[rows]
        else:
            scores, pairs = logits.sigmoid().flatten().sort(descending=True)
            scores, pairs = scores[:NUM_QUERIES], pairs[:NUM_QUERIES]
            rows, labels = pairs // NUM_CLASSES, pairs % NUM_CLASSES
        order = detections.scores.argsort(descending=True)
        detections = detections[order]
        torch.testing.assert_close(detections.scores, scores)
        assert torch.equal(detections.labels, labels)
        torch.testing.assert_close(
            detections.bboxes, boxes[rows], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('name', ['DETR', 'DINO', 'SparseRCNN'])
def test_teacher_that_pads_to_another_size(name):
    """Its masks are those of its own batch; the student's stays."""
    detector = build(tiny_model(name)).eval()
    images, data_samples = batch(name)
    images = nn.functional.pad(images, (0, 32, 0, 64))
    before = copy.deepcopy(data_samples)
    others = copy.deepcopy(data_samples)
    for sample in others:
        sample.set_metainfo(dict(batch_input_shape=(192, 192)))
    adapter = adapter_for(detector, 'teacher')
    with torch.no_grad():
        one, other = (
            adapter.predict(images, samples)[-1]
            for samples in (data_samples, others))
    assert all(map(torch.equal, one.boxes, other.boxes))
    assert all(map(torch.equal, one.logits, other.logits))
    for sample, expected in zip(data_samples, before):
        assert sample.metainfo == expected.metainfo


@EVERY
def test_batch_without_objects(tmp_path, name):
    cfg = tiny_model(name)
    student = distiller(tmp_path, cfg, kd_loss(name), teacher_seed=1)
    losses = student.loss(*batch(name, num_objects=(0, 0)))
    total, logged = student.parse_losses(losses)
    total.backward()
    assert logged['loss_kd_cls'].isfinite()
    assert all(weight.grad.isfinite().all() for weight in student.parameters()
               if weight.grad is not None)


@EVERY
@pytest.mark.parametrize('is_empty', [True, False])
def test_off_is_the_plain_detector(tmp_path, name, is_empty):
    losses = {} if is_empty else kd_loss(name, loss_weight=0.0)
    cfg = tiny_model(name)
    assert_same_training(
        build(cfg), distiller(tmp_path, cfg, losses, teacher_seed=1), name)


def without_batch_statistics(student):
    """QueryInst's mask heads have BatchNorms; they do not classify."""
    for module in student.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return student


@EVERY
@pytest.mark.parametrize('layers', ['last', 'all'])
def test_teacher_that_is_the_student_teaches_nothing(tmp_path, name, layers):
    cfg = tiny_model(name)
    terms = []
    for teacher_seed in range(2):
        student = without_batch_statistics(
            distiller(
                tmp_path,
                cfg,
                kd_loss(name),
                teacher_seed=teacher_seed,
                decoder_layers=layers))
        terms.append(student.loss(*batch(name))['loss_kd_cls'].item())
        assert student.teacher.transport.name == 'matched_predictions'
    assert abs(terms[0]) < 1e-5
    assert terms[1] > 1e-2


@SOME
def test_each_query_is_matched_with_itself(tmp_path, name):
    """All confident ones of an equal teacher, in each layer on request."""
    student = distiller(
        tmp_path, tiny_model(name), kd_loss(name), decoder_layers='all')
    student.teacher.build(student)
    images, data_samples = batch(name)
    seen = student.teacher.prepare_batch(images, data_samples)
    with adapter_for(student, 'student').observe(data_samples) as observation:
        student.loss(images, data_samples)
    distill_groups = student.teacher.classify_samples(seen, observation)
    assert [distill_group.group_index
            for distill_group in distill_groups] == list(range(NUM_LAYERS))
    for distill_group, group in zip(distill_groups, observation.groups):
        probs = group.logits.sigmoid()
        if name == 'DETR':
            probs = group.logits.softmax(dim=1)[:, :-1]
        confident = probs.amax(dim=1) > 0.0501
        assert set(confident.nonzero()[:, 0].tolist()) <= set(
            distill_group.index.tolist())
        torch.testing.assert_close(
            distill_group.samples.logits,
            distill_group.logits,
            rtol=1e-4,
            atol=1e-4)
        assert distill_group.samples.avg_factor is group.avg_factor


def build_pair(folder, student, teacher, **options):
    return distiller(
        folder,
        tiny_model(student),
        kd_loss(student),
        tiny_model(teacher, **options),
        teacher_seed=1)


@pytest.mark.parametrize('student, teacher, options', [
    ('DINO', 'DINO', dict(num_queries=20)),
    ('DABDETR', 'DABDETR', dict(num_queries=9, width=64)),
    ('DDQDETR', 'DINO', {}),
    ('DETR', 'DINO', {}),
    ('DINO', 'DETR', {}),
    ('SparseRCNN', 'DDQDETR', dict(num_queries=20)),
    ('ConditionalDETR', 'QueryInst', {}),
])
def test_pairs_of_unlike_detectors(tmp_path, student, teacher, options):
    """Other numbers of queries, widths, classes of detector, activations."""
    model = build_pair(tmp_path, student, teacher, **options)
    losses = model.loss(*batch(student))
    assert losses['loss_kd_cls'].item() > 0
    losses['loss_kd_cls'].backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0
               for weight in model.backbone.parameters())


@SOME
def test_each_head_runs_once(tmp_path, name):
    student = distiller(tmp_path, tiny_model(name), kd_loss(name))
    student.teacher.build(student)
    teacher = student.teacher.detector
    runs = []
    for role, detector in (('student', student), ('teacher', teacher)):
        detector.backbone.register_forward_hook(
            lambda *_, role=role: runs.append(role))
    head = getattr(teacher, 'roi_head', None) or teacher.bbox_head
    with mock.patch.object(head, 'loss', side_effect=AssertionError), \
            mock.patch.object(teacher, 'loss', side_effect=AssertionError), \
            mock.patch.object(head, 'predict', side_effect=AssertionError):
        student.loss(*batch(name))
    assert runs == ['teacher', 'student']


@SOME
def test_no_hook_outlives_the_step(tmp_path, name):
    student = distiller(tmp_path, tiny_model(name), kd_loss(name))
    student.teacher.build(student)
    before = num_hooks(student)
    images, data_samples = batch(name)
    student.loss(images, data_samples)
    assert num_hooks(student) == before
    with pytest.raises(ZeroDivisionError), mock.patch.object(
            type(student), '_forward', side_effect=ZeroDivisionError), \
            adapter_for(student, 'student').observe(data_samples):
        student._forward(images, data_samples)
    assert num_hooks(student) == before


@pytest.mark.parametrize(
    'name', ['DETR', 'DINO', 'TwoStageDeformableDETR', 'SparseRCNN'])
def test_batch_norms_are_folded(name):
    """Also where scores choose the queries, and rounding their order."""
    detector = build(tiny_model(name))
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    detector.requires_grad_(False).eval()
    folded = fold_batch_norms(detector)
    assert folded is not detector
    assert not any(
        isinstance(module, _BatchNorm) for module in folded.modules())
    with mock.patch(
            'tcal_det.models.distillers.batch_norm_folding.'
            'fuse_conv_bn_weights',
            side_effect=lambda weight, bias, *_: (weight, bias)):
        assert fold_batch_norms(detector) is detector


def test_all_layers_are_for_queries(tmp_path):
    student = distiller(
        tmp_path,
        dense_cases.tiny_model('RetinaHead'),
        kd_loss('DINO'),
        decoder_layers='all')
    with pytest.raises(InvalidValueError, match='for students with queries'):
        student.teacher.build(student)


def test_head_outside_of_its_detector_is_refused():
    detector = build(tiny_model('DETR'))
    other = nn.Module()
    other.bbox_head = detector.bbox_head
    with pytest.raises(
            InvalidTypeError, match='but is not a DetectionTransformer'):
        adapter_for(other, 'student')


def test_stages_of_two_kinds_are_refused():
    cfg = tiny_model('SparseRCNN')
    cfg.roi_head.bbox_head[1].num_classes = 3
    with pytest.raises(InvalidTypeError, match='give all stages the same'):
        adapter_for(build(cfg), 'teacher')


@EVERY
def test_labels_are_claims_of_the_detections(name):
    detector = build(tiny_model(name)).eval()
    images, data_samples = batch(name)
    adapter = adapter_for(detector, 'teacher')
    assert adapter.reason_against_labelling() is None
    with torch.no_grad():
        predicted = adapter.predict(images, data_samples)[-1]
        # One object where a query is, of a class of its own.
        data_samples[0].gt_instances = InstanceData(
            bboxes=predicted.boxes[0][4:5], labels=torch.tensor([2]))
        data_samples[1].gt_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        group, = adapter.label(images, data_samples, 'test')
    assert group.stage == NUM_LAYERS - 1 and group.quality is None
    assert torch.equal(group.logits, torch.cat(predicted.logits))
    counts = [len(one) for one in predicted.boxes]
    assert group.image_index.bincount().tolist() == counts
    assert (group.labels < NUM_CLASSES).sum() == 1
    assert group.labels[:counts[0]].min() == 2
    logits = predicted.logits[0]
    # DETR's softmax has a column for background, the sigmoid heads none.
    scores = (
        logits.softmax(dim=1)[:, :NUM_CLASSES]
        if logits.shape[1] > NUM_CLASSES else logits.sigmoid())
    expected = assign_objects(predicted.boxes[0], scores, data_samples[0],
                              NUM_CLASSES)
    assert torch.equal(group.labels[:counts[0]], expected[0])
