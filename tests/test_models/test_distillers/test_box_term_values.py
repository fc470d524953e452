"""The value of each loss on boxes, computed again from what mmdet says."""
import math

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub

from tcal_det.errors import InvalidValueError
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS
from tests.box_term_cases import (NAME, gradients, make_student, step,
                                  student_cfg)
from tests.head_families import build, detector_cfg, write_teacher


class Recorder:
    """Arguments and outputs of all calls of some modules."""

    def __init__(self, **modules):
        self.calls = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_hook(self._hook(name), with_kwargs=True)

    def _hook(self, name):

        def record(_, args, kwargs, output):
            self.calls[name].append((args, kwargs, output))

        return record

    def __getitem__(self, name):
        return self.calls[name]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0)


def softmax(row, temperature):
    exps = [math.exp(value / temperature) for value in row]
    return [one / sum(exps) for one in exps]


def giou(one, other):
    inner = [
        max(0.,
            min(one[2 + axis], other[2 + axis]) - max(one[axis], other[axis]))
        for axis in (0, 1)
    ]
    hull = [
        max(one[2 + axis], other[2 + axis]) - min(one[axis], other[axis])
        for axis in (0, 1)
    ]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    overlap, outer = (sides[0] * sides[1] for sides in (inner, hull))
    union = sum(areas) - overlap
    return overlap / union - (outer - union) / outer


def test_ld_is_that_of_mmdets_head(tmp_path, batch):
    """LDHead averages over the bins and does not divide by the weights."""
    model = make_student('ld', tmp_path, with_tcal=True)
    cfg = detector_cfg('gfl')
    cfg.bbox_head.update(
        type='LDHead',
        loss_ld=ConfigDict(
            type='KnowledgeDistillationKLDivLoss', loss_weight=1.0, T=10))
    theirs = build(cfg, MMDET_MODELS)
    theirs.load_state_dict(model.state_dict())
    ours = step(model, batch())[NAME]
    theirs.train()
    data = theirs.data_preprocessor(batch(), True)
    weights = []
    theirs.bbox_head.loss_ld.register_forward_hook(
        lambda _, args, kwargs, output: weights.append(kwargs['weight'].sum() /
                                                       4),
        with_kwargs=True)
    teacher = model.teacher.detector
    with torch.no_grad():
        soft = teacher.bbox_head(teacher.extract_feat(data['inputs']))
    losses = theirs.bbox_head.loss(
        theirs.extract_feat(data['inputs']), soft, data['data_samples'])
    bins = model.bbox_head.reg_max + 1
    total = sum(losses['loss_ld'])
    assert total.item() > 0 and sum(weights) > 1
    torch.testing.assert_close(ours, bins * total / sum(weights))
    found, expected = gradients(model, ours), gradients(theirs, total)
    for name, gradient in expected.items():
        if gradient is not None and gradient.any():
            torch.testing.assert_close(
                found[name],
                gradient * bins / sum(weights),
                rtol=1e-3,
                atol=1e-6)
    # The scores weigh, and are not pulled at.
    assert found['bbox_head.gfl_cls.weight'] is None
    assert found['bbox_head.gfl_reg.weight'].any()


@pytest.mark.parametrize('with_tcal', [False, True])
def test_ld_needs_no_shared_classes(tmp_path, batch, with_tcal):
    """Without a loss on logits; and is the same beside one."""
    other = write_teacher(tmp_path, 'gfl', 'other', num_classes=7)
    model = build(student_cfg('ld', other, with_tcal=with_tcal), MODELS)
    if with_tcal:
        with pytest.raises(InvalidValueError, match='the same classes'):
            step(model, batch())
    else:
        assert step(model, batch())[NAME].item() > 0


@pytest.mark.parametrize('is_cascade', [False, True])
@pytest.mark.parametrize('samples', ['foreground', 'all'])
def test_boxes_of_rois(tmp_path, batch, is_cascade, samples):
    case = 'boxes_of_a_cascade' if is_cascade else 'boxes_of_rois'
    model = make_student(
        case, tmp_path, with_tcal=True, distance='giou', samples=samples)
    step(model, batch())
    student, teacher = ([head.bbox_head]
                        if not is_cascade else list(head.bbox_head)
                        for head in (model.roi_head,
                                     model.teacher.detector.roi_head))
    own, other = ([Recorder(head=head) for head in heads]
                  for heads in (student, teacher))
    labels = [Recorder(loss=head.loss_cls) for head in student]
    with adapter_for(model, 'student').observe() as observation:
        value = step(model, batch())[NAME]
    weights = model.roi_head.stage_loss_weights if is_cascade else [1.0]
    total = 0.
    for stage, group in enumerate(observation.groups):
        (args, kwargs, _), = labels[stage]['loss']
        assigned = args[1]
        (_, _, (_, mine)), = own[stage]['head']
        (_, _, (logits, its)), = other[stage]['head']
        # The family's calibrator: T = 2.
        probs = (logits / 2).softmax(dim=1)[:, :3]
        chosen = torch.where(assigned < 3, assigned, probs.argmax(dim=1))
        far = dict(img_shape=(10**6, 10**6))
        for row, roi in enumerate(group.location[:, 1:]):
            if samples == 'foreground' and assigned[row] == 3:
                continue
            # Far from the border nothing is clipped.
            place = (roi + 10**4)[None].double()
            boxes = [
                get_box_tensor(
                    head.regress_by_class(place, chosen[row:row + 1],
                                          deltas[row:row + 1].double(),
                                          far))[0].tolist()
                for head, deltas in ((student[stage], mine), (teacher[stage],
                                                              its))
            ]
            total += weights[stage] * probs[row].max().item() * (
                1 - giou(*boxes)) / kwargs['avg_factor']
    assert value.item() == pytest.approx(total, rel=1e-3)
    assert total > 0


def test_boxes_of_anchors(tmp_path, batch):
    """Positives of RetinaNet, with Platt's calibration: scale 2, bias 0.5."""
    model = make_student('boxes_of_anchors', tmp_path, samples='foreground')
    step(model, batch())
    head, other = model.bbox_head, model.teacher.detector.bbox_head
    own, its = Recorder(head=head, loss=head.loss_cls), Recorder(head=other)
    value = step(model, batch())[NAME]
    (_, _, (_, mine)), = own['head']
    (_, _, (scores, theirs)), = its['head']
    total, count = 0., 0
    for level, (args, kwargs, _) in enumerate(own['loss']):
        anchors = head.prior_generator.grid_priors(
            [one.shape[-2:] for one in mine],
            device='cpu')[level].repeat(2, 1)
        rows = [
            maps[level].permute(0, 2, 3, 1).reshape(len(anchors), -1)
            for maps in (mine, theirs, scores)
        ]
        for row in (args[1] < 3).nonzero()[:, 0].tolist():
            boxes = []
            x1, y1, x2, y2 = anchors[row].tolist()
            for dx, dy, dw, dh in (part[row].tolist() for part in rows[:2]):
                # RetinaNet's deltas have no standard deviations.
                width, height = (x2 - x1) * math.exp(dw), (y2 -
                                                           y1) * math.exp(dh)
                x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (
                    y2 - y1)
                boxes.append([
                    x - width / 2, y - height / 2, x + width / 2,
                    y + height / 2
                ])
            score = max((2 * rows[2][row] + 0.5).sigmoid().tolist())
            total += score * (1 - giou(*boxes)) / kwargs['avg_factor']
            count += 1
    assert count > 5
    assert value.item() == pytest.approx(total, rel=1e-3)


def test_objectness_of_the_rpn(tmp_path, batch):
    model = make_student('rpn', tmp_path)
    # A sampler that leaves most anchors out.
    model.rpn_head.sampler.num = 16
    step(model, batch())
    head, other = model.rpn_head, model.teacher.detector.rpn_head
    own, its = Recorder(head=head, loss=head.loss_cls), Recorder(head=other)
    value = step(model, batch())[NAME]
    (_, _, (mine, _)), = own['head']
    (_, _, (theirs, _)), = its['head']
    total, count = 0., 0
    for level, (args, kwargs, _) in enumerate(own['loss']):
        weight = args[2]
        assert kwargs['avg_factor'] == 32
        rows = [
            maps[level].permute(0, 2, 3, 1).flatten().double().sigmoid()
            for maps in (mine, theirs)
        ]
        for row in weight.nonzero()[:, 0].tolist():
            p, q = rows[1][row].item(), rows[0][row].item()
            total += kl((p, 1 - p), (q, 1 - q)) / 32
            count += 1
    assert count == 32
    assert value.item() == pytest.approx(total, rel=1e-4)


def test_boxes_of_classes_in_another_order(tmp_path, batch, monkeypatch):
    """The box of a class is that of the same name."""
    names, order = ('cat', 'dog', 'cow'), [2, 0, 1]
    hub = MessageHub.get_current_instance()
    monkeypatch.setitem(hub.runtime_info, 'dataset_meta', dict(classes=names))
    teacher = write_teacher(tmp_path, 'faster')
    content = torch.load(teacher['checkpoint'])
    values = []
    for labels in ([0, 1, 2], order):
        state = dict(content['state_dict'])
        for key in ('weight', 'bias'):
            rows = state[f'roi_head.bbox_head.fc_cls.{key}']
            state[f'roi_head.bbox_head.fc_cls.{key}'] = rows[[*labels, 3]]
            rows = state[f'roi_head.bbox_head.fc_reg.{key}']
            state[f'roi_head.bbox_head.fc_reg.{key}'] = rows.view(
                3, 4, -1)[labels].view_as(rows)
        torch.save(
            dict(
                state_dict=state,
                meta=dict(
                    dataset_meta=dict(
                        classes=[names[label] for label in labels]))),
            teacher['checkpoint'])
        model = build(student_cfg('boxes_of_rois', teacher), MODELS)
        values.append(step(model, batch())[NAME].item())
    assert values[0] > 0 and values[0] == values[1]
