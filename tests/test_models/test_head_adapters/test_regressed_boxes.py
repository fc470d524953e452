"""Boxes with their graph: where they are, and what they depend on.

The tests of decoded boxes hold that these are the boxes of the heads' own
detections.
"""
import pytest
import torch
from mmengine.registry import init_default_scope

from tcal_det.models.head_adapters import (ClassificationSamples, ModuleCall,
                                           adapter_for)
from tcal_det.models.head_adapters.decoded_boxes import PredictedBoxes
from tests import dense_cases, roi_cases

# Its boxes jump from bucket to bucket.
BUCKETS = 'SABLRetinaHead'


def leaves(part):
    """Maps that a gradient is asked of, in the place of those returned."""
    if isinstance(part, torch.Tensor):
        return part.detach().requires_grad_()
    return tuple(map(leaves, part))


def all_leaves(part):
    if isinstance(part, torch.Tensor):
        return [part]
    return [leaf for one in part for leaf in all_leaves(one)]


def _spread(part, generator=None):
    """Boxes that differ, as after training."""
    generator = generator or torch.Generator().manual_seed(1)
    if isinstance(part, torch.Tensor):
        return part + 0.3 * torch.randn(part.shape, generator=generator)
    return tuple(_spread(one, generator) for one in part)


@pytest.fixture(scope='module')
def predicted():
    """A head in training, and what it returned, by its name."""
    made = {}

    def make(name):
        if name not in made:
            init_default_scope('mmdet')
            detector = dense_cases.build(dense_cases.tiny_model(name))
            with torch.no_grad():
                outputs = detector.bbox_head(
                    detector.extract_feat(dense_cases.batch(name)[0]))
            made[name] = detector.bbox_head, _spread(outputs)
        return made[name]

    return make


@pytest.mark.parametrize('name', dense_cases.HEADS)
def test_boxes_with_graph_are_the_boxes(predicted, name):
    head, outputs = predicted(name)
    outputs = leaves(outputs)
    plain = PredictedBoxes(head, outputs).decode()
    boxes = PredictedBoxes(head, outputs, keeps_graph=True).decode()
    assert not any(level.requires_grad for level in plain)
    assert all(level.requires_grad for level in boxes)
    assert all(map(torch.equal, plain, boxes))


@pytest.mark.parametrize('name', sorted(set(dense_cases.HEADS) - {BUCKETS}))
def test_gradient_is_the_slope_of_the_boxes(predicted, name):
    """Along a random direction in the space of all that the head returned.

    The slope is measured on the boxes without a graph.
    """
    head, outputs = predicted(name)
    outputs = leaves(outputs)
    maps = all_leaves(outputs)
    generator = torch.Generator().manual_seed(3)

    def draw(like):
        return torch.randn(like.shape, generator=generator)

    boxes = PredictedBoxes(head, outputs, keeps_graph=True).decode()
    weights = [draw(level) for level in boxes]
    total = sum(
        (weight * level).sum() for weight, level in zip(weights, boxes))
    gradients = torch.autograd.grad(total, maps, allow_unused=True)
    # A pixel of a box is 1; steps of maps that move boxes by about that.
    direction = [draw(one) for one in maps]
    slope = sum((gradient * step).sum().double()
                for gradient, step in zip(gradients, direction)
                if gradient is not None)
    size = 1e-3

    def moved(sign):
        steps = iter(direction)

        def add(part):
            if isinstance(part, torch.Tensor):
                return part.detach() + sign * size * next(steps)
            return tuple(map(add, part))

        return PredictedBoxes(head, add(outputs)).decode()

    measured = sum(
        (weight * (plus.double() - minus.double())).sum() / (2 * size)
        for weight, plus, minus in zip(weights, moved(1), moved(-1)))
    assert slope.abs() > 0
    scale = max(slope.abs(), torch.tensor(100.))
    assert (measured - slope).abs() < 0.03 * scale


@pytest.mark.parametrize('is_per_class', [True, False])
def test_boxes_of_rois_by_hand(is_per_class):
    """Centre (20, 30), 20 wide and 40 high; deltas are (0.1, -0.2, log 2, 0).

    Divided by the standard deviations (0.1, 0.1, 0.2, 0.2).
    """
    detector = _RoIDetector(is_per_class)
    columns = torch.zeros(3, 4)
    columns[1] = torch.tensor([.1, -.2, torch.tensor(2.).log(), 0.])
    deltas = (columns / torch.tensor([.1, .1, .2, .2])).requires_grad_()
    rois = torch.tensor([[0., 10., 10., 30., 50.], [1., 0., 0., 10., 10.]])
    group = ClassificationSamples(
        torch.zeros(2, 4), torch.tensor([0, 1]), rois)
    given = deltas.view(1, 12).repeat(2, 1) if is_per_class else torch.stack(
        [deltas[1], deltas[0]])
    boxes, = detector.regress(
        {'head.0': ModuleCall(
            (), (group.logits, given))}, [group], [torch.tensor([1, 2])])
    # Centre (22, 22), 40 wide and 40 high; the second stays.
    expected = torch.tensor([[2., 2., 42., 42.], [0., 0., 10., 10.]])
    torch.testing.assert_close(boxes, expected)
    # d x1 / d delta_x = 0.1 * 20, of the class that was asked for.
    gradient, = torch.autograd.grad(boxes[0, 0], deltas)
    torch.testing.assert_close(gradient[1, 0], torch.tensor(2.))
    assert (gradient[[0, 2]] == 0).all()


def _RoIDetector(is_per_class):
    init_default_scope('mmdet')
    model = roi_cases.small('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    model.roi_head.bbox_head.reg_class_agnostic = not is_per_class
    return adapter_for(roi_cases.build_detector(model), 'student')


def test_stage_that_saw_no_roi_has_no_boxes():
    adapter = _RoIDetector(True)
    group = ClassificationSamples(
        torch.zeros(0, 5),
        torch.zeros(0).long(), torch.zeros(0, 5))
    boxes, = adapter.regress({}, [group], [torch.zeros(0).long()])
    assert boxes.shape == (0, 4)


@pytest.mark.parametrize('name', ['sabl', 'sabl_cascade', BUCKETS])
def test_buckets_are_not_regressed(name):
    if name == BUCKETS:
        detector = dense_cases.build(dense_cases.tiny_model(name))
    else:
        detector = roi_cases.build_detector(roi_cases.case_cfg(name))
    reason = adapter_for(detector, 'student').reason_against_regressing()
    assert reason.startswith('has the `bbox_head` SABL')
