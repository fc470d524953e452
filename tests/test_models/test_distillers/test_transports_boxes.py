"""Teachers of another family, by the boxes that both know."""
import copy

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures.bbox import bbox_overlaps
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.engine import CPUAmpOptimWrapper
from tcal_det.registry import MODELS
from tests.head_families import (FAMILIES, build, detector_cfg, distiller_cfg,
                                 write_teacher)
from tests.processes import run_ranks
from tests.test_models.test_distillers.training_ranks import (
    build_for_training, train_one_half, training_loss)

# Teacher, student, and how its answers come.
PAIRS = [
    ('faster', 'retinanet', 'rois_at_boxes'),
    ('faster', 'gfl', 'rois_at_boxes'),
    ('cascade', 'retinanet', 'rois_at_boxes'),
    ('retinanet', 'faster', 'matched_predictions'),
    ('retinanet', 'cascade', 'matched_predictions'),
    ('gfl', 'retinanet', 'matched_predictions'),
]
EACH_PAIR = pytest.mark.parametrize('teacher, student, transport', PAIRS)
TEMPERATURE = 2.0


@pytest.fixture
def pair_cfg(tmp_path):
    """A student's config, by the families of both."""

    def make(teacher, student, loss_weight=1.0):
        return distiller_cfg(
            student,
            write_teacher(tmp_path, teacher, name=teacher),
            calibrator=FAMILIES[teacher][1],
            loss=dict(FAMILIES[student][2], loss_weight=loss_weight))

    return make


def freeze_norms(model):
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def step(model, raw, empty_image=None):
    """Losses of a training step, and the groups of its teacher."""
    data = model.data_preprocessor(copy.deepcopy(raw), True)
    if empty_image is not None:
        sample = data['data_samples'][empty_image]
        sample.gt_instances = sample.gt_instances[:0]
    torch.manual_seed(0)
    if not hasattr(model, 'teacher'):
        return model(**data, mode='loss'), []
    if not model.teacher.is_built:
        model.teacher.build(model)
    with model.teacher.recorded_groups() as distill_groups:
        losses = model(**data, mode='loss')
    return losses, distill_groups


@EACH_PAIR
def test_step_teaches_and_leaves_the_rest_alone(pair_cfg, batch, teacher,
                                                student, transport):
    model = freeze_norms(build(pair_cfg(teacher, student), MODELS))
    losses, distill_groups = step(model, batch())
    assert model.teacher.transport.name == transport
    taught = sum(len(one.logits) for one in distill_groups)
    assert taught > 20
    for one in distill_groups:
        assert one.logits.shape == one.samples.logits.shape
        assert not one.logits.requires_grad
        assert (one.index.diff() > 0).all()
    losses['loss_kd_cls'].backward(retain_graph=True)
    assert losses['loss_kd_cls'].isfinite() and losses['loss_kd_cls'] > 0
    heads = [
        weight.grad for name, weight in model.named_parameters()
        if name.endswith('_cls.weight') and 'rpn' not in name
    ]
    assert heads and all(grad.abs().sum() > 0 for grad in heads)
    plain = freeze_norms(build(detector_cfg(student), MMDET_MODELS))
    plain.load_state_dict(model.state_dict())
    expected, _ = step(plain, batch())
    del losses['loss_kd_cls']
    assert list(losses) == list(expected)
    for name, value in expected.items():
        for mine, its in zip(*(one if isinstance(one, list) else [one]
                               for one in (losses[name], value))):
            assert torch.equal(mine, its)
    assert list(model.state_dict()) == list(plain.state_dict())


@EACH_PAIR
def test_off_equals_the_plain_detector(pair_cfg, batch, teacher, student,
                                       transport):
    model = freeze_norms(build(pair_cfg(teacher, student, 0.0), MODELS))
    plain = freeze_norms(build(detector_cfg(student), MMDET_MODELS))
    plain.load_state_dict(model.state_dict())
    gradients = []
    for detector in (model, plain):
        losses, _ = step(detector, batch())
        assert losses.pop('loss_kd_cls', torch.zeros(())).item() == 0
        detector.parse_losses(losses)[0].backward()
        gradients.append([weight.grad for weight in detector.parameters()])
    for mine, its in zip(*gradients):
        assert mine is its is None or torch.equal(mine, its)


@EACH_PAIR
@pytest.mark.parametrize('empty_image', [0, 1])
def test_image_without_objects(pair_cfg, batch, teacher, student, transport,
                               empty_image):
    model = freeze_norms(build(pair_cfg(teacher, student), MODELS))
    losses, _ = step(model, batch(), empty_image)
    total = model.parse_losses(losses)[0]
    total.backward()
    assert total.isfinite()
    losses, _ = step(model, batch(num_boxes=0))
    assert model.parse_losses(losses)[0].isfinite()


@EACH_PAIR
def test_half_precision(pair_cfg, batch, teacher, student, transport):
    model = freeze_norms(build(pair_cfg(teacher, student), MODELS))
    expected = step(model, batch())[0]['loss_kd_cls'].item()
    wrapper = CPUAmpOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    with wrapper.optim_context(model):
        losses, _ = step(model, batch())
        total = model.parse_losses(losses)[0]
    total.backward()
    # Other samples are chosen and matched, where scores nearly tie.
    assert losses['loss_kd_cls'].item() == pytest.approx(expected, rel=0.3)
    assert all(weight.grad is None or weight.grad.isfinite().all()
               for weight in model.parameters())


def binary_kl(student, teacher):
    """Summed over the classes, in float64, by its definition."""
    p, q = teacher.double().sigmoid(), student.double().sigmoid()
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(dim=1)


def frozen_teacher(family):
    """The teacher, built and run by mmdet alone."""
    return build(detector_cfg(family), MMDET_MODELS, seed=1).eval()


def retina_student(model, raw):
    """What the loss of a RetinaNet is given, and the boxes of its anchors.

    Returns:
        tuple: Images, samples; by level, the calls of its loss, and boxes of
        the shape (N, P, 4).
    """
    plain = freeze_norms(build(detector_cfg('retinanet'), MMDET_MODELS))
    plain.load_state_dict(model.state_dict())
    head, calls, outputs = plain.bbox_head, [], []
    head.loss_cls.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(args + (kwargs['avg_factor'], )),
        with_kwargs=True)
    head.register_forward_hook(lambda _, args, output: outputs.append(output))
    data = plain.data_preprocessor(copy.deepcopy(raw), True)
    torch.manual_seed(0)
    plain(**data, mode='loss')
    maps = outputs[0][1]
    anchors = head.prior_generator.grid_priors(
        [level.shape[-2:] for level in maps], device='cpu')
    boxes = []
    for level, priors in zip(maps, anchors):
        deltas = level.detach().permute(0, 2, 3, 1).reshape(len(level), -1, 4)
        boxes.append(
            torch.stack([
                head.bbox_coder.decode(
                    priors, image, max_shape=sample.img_shape)
                for image, sample in zip(deltas, data['data_samples'])
            ]))
    return data['inputs'], data['data_samples'], calls, boxes


def chosen_by_hand(calls, boxes, most=512):
    """Pairs of level and position, by image: objects, then by score."""
    num_images = len(boxes[0])
    images = []
    for image in range(num_images):
        ranked = []
        for level, (logits, labels, *_) in enumerate(calls):
            count = boxes[level].shape[1]
            for place in range(image * count, (image + 1) * count):
                ranked.append((labels[place].item()
                               < 3, logits[place].max().item(), level, place))
        ranked.sort(key=lambda one: one[:2], reverse=True)
        images.append([one[2:] for one in ranked[:most]])
    return images


@torch.no_grad()
@pytest.mark.parametrize('family', ['faster', 'cascade'])
def test_rois_at_boxes_by_hand(pair_cfg, batch, family):
    """The teacher's own head at the boxes, softmax made one against rest."""
    model = freeze_norms(build(pair_cfg(family, 'retinanet'), MODELS))
    losses, _ = step(model, batch())
    images, _, calls, boxes = retina_student(model, batch())
    teacher = frozen_teacher(family)
    features = teacher.extract_feat(images)
    total = 0
    num_objects = 0
    for image, chosen in enumerate(chosen_by_hand(calls, boxes)):
        assert len(chosen) == 512
        rois = torch.cat([
            torch.tensor([[float(image)]] * len(chosen)),
            torch.stack(
                [boxes[level].flatten(0, 1)[place] for level, place in chosen])
        ], 1)
        if family == 'faster':
            logits = teacher.roi_head._bbox_forward(features,
                                                    rois)['cls_score']
        else:
            logits = sum(
                teacher.roi_head._bbox_forward(stage, features, rois)
                ['cls_score'] for stage in range(3)) / 3
        probs = (logits.double() / TEMPERATURE).softmax(dim=1)[:, :3]
        student = torch.stack(
            [calls[level][0][place] for level, place in chosen])
        weight = torch.stack(
            [calls[level][2][place] for level, place in chosen])
        num_objects += sum(calls[level][1][place].item() < 3
                           for level, place in chosen)
        total += (binary_kl(student, probs.logit()) * weight).sum()
    # All positives are among them.
    assert num_objects == sum((call[1] < 3).sum().item() for call in calls)
    assert num_objects > 0
    assert losses['loss_kd_cls'].item() == pytest.approx(
        total.item() / calls[0][3], rel=1e-3)


@torch.no_grad()
def test_matched_predictions_by_hand(pair_cfg, batch):
    """Each anchor takes the row of the best box of GFL on which it lies."""
    model = freeze_norms(build(pair_cfg('gfl', 'retinanet'), MODELS))
    losses, distill_groups = step(model, batch())
    images, samples, calls, boxes = retina_student(model, batch())
    teacher = frozen_teacher('gfl')
    head = teacher.bbox_head
    scores, distances = head(teacher.extract_feat(images))
    found, rows = [[], []], [[], []]
    for level, (score, distance) in enumerate(zip(scores, distances)):
        stride = head.prior_generator.strides[level][0]
        for image in range(2):
            height, width = score.shape[-2:]
            for y in range(height):
                for x in range(width):
                    # Expected values of the bins of the four sides.
                    sides = distance[image, :, y, x].view(4, -1).softmax(1)
                    left, top, right, bottom = (
                        sides @ torch.arange(sides.shape[1]).float() *
                        stride).tolist()
                    limit_y, limit_x = samples[image].img_shape
                    found[image].append([
                        min(max(value, 0), limit)
                        for value, limit in ((x * stride - left, limit_x),
                                             (y * stride - top, limit_y),
                                             (x * stride + right, limit_x),
                                             (y * stride + bottom, limit_y))
                    ])
                    rows[image].append(score[image, :, y, x])
    total, taught = 0, 0
    for image, chosen in enumerate(chosen_by_hand(calls, boxes)):
        mine = torch.stack(
            [boxes[level].flatten(0, 1)[place] for level, place in chosen])
        logits = torch.stack(rows[image])
        overlaps = bbox_overlaps(mine, torch.tensor(found[image]))
        best = logits.sigmoid().max(dim=1).values
        for (level, place), overlap in zip(chosen, overlaps):
            fits = (overlap >= 0.5).nonzero().flatten().tolist()
            if not fits:
                continue
            pick = max(fits, key=lambda one: overlap[one] * best[one])
            divergence = binary_kl(calls[level][0][place][None],
                                   logits[pick][None])
            total += (divergence * calls[level][2][place]).item()
            taught += 1
    assert 20 < taught == sum(len(one.logits) for one in distill_groups) < 1024
    assert losses['loss_kd_cls'].item() == pytest.approx(
        total / calls[0][3], rel=1e-3)


@torch.no_grad()
def test_sigmoid_teacher_of_a_softmax_student(pair_cfg, batch):
    """RetinaNet's rows, calibrated, with a background of logit 0."""
    model = freeze_norms(build(pair_cfg('retinanet', 'faster'), MODELS))
    calls = []
    model.roi_head.bbox_head.loss_cls.register_forward_pre_hook(
        lambda _, args: calls.append(args))
    losses, distill_groups = step(model, batch())
    distill_group, = distill_groups
    teacher = frozen_teacher('retinanet')
    data = model.data_preprocessor(batch(), True)
    maps, _ = teacher.bbox_head(teacher.extract_feat(data['inputs']))
    rows = torch.cat(
        [level.permute(0, 2, 3, 1).reshape(-1, 3) for level in maps])
    # PlattScaling of head_families.
    rows = torch.cat([2 * rows + 0.5, torch.zeros(len(rows), 1)], dim=1)
    distances = torch.cdist(
        distill_group.logits,
        rows,
        compute_mode='donot_use_mm_for_euclid_dist')
    assert distances.min(dim=1).values.max() < 1e-3
    student, target = (
        one.double().log_softmax(1)
        for one in (calls[0][0][distill_group.index], distill_group.logits))
    divergence = (target.exp() * (target - student)).sum(dim=1)
    weight = calls[0][2][distill_group.index].double()
    # Divided by the number of all RoIs, as the student's own loss.
    assert 20 < len(distill_group.index) < len(calls[0][0])
    assert losses['loss_kd_cls'].item() == pytest.approx(
        (divergence * weight).sum().item() / len(calls[0][0]), rel=1e-3)


@pytest.mark.slow
def test_two_ranks_average_their_gradients(pair_cfg, batch, tmp_path):
    """As one process on both halves; no teacher among the parameters."""
    cfgs = [
        pair_cfg(teacher, student)
        for teacher, student, _ in (PAIRS[0], PAIRS[3])
    ]
    halves = [batch(num_images=1, seed=seed) for seed in (0, 1)]
    run_ranks(train_one_half, cfgs, halves, str(tmp_path))
    ranks = [torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1)]
    for position, cfg in enumerate(cfgs):
        model = build_for_training(cfg)
        for half in halves:
            (training_loss(model, half) / 2).backward()
        expected = [weight.grad for weight in model.parameters()]
        mine, its = (rank[position] for rank in ranks)
        assert len(mine) == len(its) == len(expected)
        for one, other, whole in zip(mine, its, expected):
            assert torch.equal(one, other)
            torch.testing.assert_close(one, whole, rtol=1e-3, atol=1e-5)
