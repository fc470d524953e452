"""Which RoI heads teach which, with what; and which are refused."""
from unittest import mock

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from tcal_det.engine import CPUAmpOptimWrapper
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.distillers.sample_transport import (RoIsAtBoxes,
                                                         SameSamples,
                                                         choose_transport)
from tcal_det.models.head_adapters import adapter_for
from tests.roi_cases import (CASES, NUM_CLASSES, SIGMOID, build_detector,
                             case_cfg, distiller_of, num_hooks, raw_batch,
                             save_teacher, small, stages_of, training_losses)

LOGGER = 'tcal_det.models.head_adapters.roi_head_adapter.print_log'


def two_stages(cfg):
    roi_head = cfg.roi_head
    roi_head.num_stages = 2
    roi_head.stage_loss_weights = [1, 0.5]
    roi_head.bbox_head = roi_head.bbox_head[:2]
    cfg.train_cfg.rcnn = cfg.train_cfg.rcnn[:2]


EDITED = dict(
    two_stages=lambda: small(CASES['cascade'][0], two_stages),
    wide=lambda: small(CASES['faster'][0], one_class_more),
    two_branches=lambda: small(CASES['trident'][0], two_branches),
    checkpointed=lambda: small(CASES['faster'][0], checkpoint_activations),
    mixed=lambda: small(CASES['cascade'][0], mix_losses),
    other_cascade=lambda: case_cfg('cascade'),
)


def one_class_more(cfg):
    cfg.roi_head.bbox_head.num_classes = NUM_CLASSES + 1


def two_branches(cfg):
    CASES['trident'][1](cfg)
    cfg.backbone.update(num_branch=2, trident_dilations=(1, 2))
    cfg.roi_head.num_branch = 2


def checkpoint_activations(cfg):
    cfg.backbone.with_cp = True


def mix_losses(cfg):
    cfg.roi_head.bbox_head[2].loss_cls = SIGMOID


@pytest.fixture(scope='module')
def model_of(tmp_path_factory):
    """Config and detector by name, each built once; not to be trained."""
    built = {}

    def get(name):
        if name not in built:
            cfg = EDITED[name]() if name in EDITED else case_cfg(name)
            seed = sorted({**CASES, **EDITED}).index(name)
            built[name] = cfg, build_detector(cfg, seed=seed)
        return built[name]

    return get


@pytest.fixture
def pair(model_of, tmp_path):
    """A student with a teacher, by their names."""

    def make(student, teacher, losses=None):
        cfg, detector = model_of(student)
        return distiller_of(
            cfg, save_teacher(tmp_path, teacher, *model_of(teacher)), losses,
            detector.state_dict())

    return make


def step(student, **batch):
    """Losses of a step and what the student classified in it."""
    with adapter_for(student, 'student').observe() as observation:
        losses = training_losses(student, **batch)
    return losses, observation.groups


def features_of(detector):
    """A teacher's, of the batch that ``training_losses`` makes."""
    data = detector.data_preprocessor(raw_batch(), True)
    return detector.eval().extract_feat(data['inputs'])


def expected_loss(groups, answers):
    """The mean over RoIs of KL(teacher, student), stage weights applied."""
    total = 0
    for group, answer in zip(groups, answers):
        target = answer.double().softmax(1)
        divergence = (
            target * (target.log() - group.logits.double().log_softmax(1)))
        total = total + group.group_weight * divergence.sum(1).mean()
    return total.item()


def by_hand(detector, stage, features, rois):
    """Extractor and head of one stage, without the RoI head's methods."""
    roi_head = detector.roi_head
    extractor = roi_head.bbox_roi_extractor
    if isinstance(extractor, torch.nn.ModuleList):
        extractor = extractor[stage]
    return stages_of(detector)[stage](extractor(features[:4], rois))[0]


@torch.no_grad()
def test_faster_student_of_a_cascade(model_of, pair):
    """The mean of its stages' logits, at the student's RoIs."""
    losses, groups = step(pair('faster', 'cascade'))
    teacher = model_of('cascade')[1]
    features = features_of(teacher)
    group, = groups
    answer = torch.stack([
        by_hand(teacher, stage, features, group.location) for stage in range(3)
    ]).mean(0)
    assert losses['loss_kd_cls'].item() == pytest.approx(
        expected_loss(groups, [answer]), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('teacher, stages', [('faster', [0, 0, 0]),
                                             ('other_cascade', [0, 1, 2])])
def test_cascade_student(model_of, pair, teacher, stages):
    """Each stage's RoIs; of a cascade, by the same stage."""
    losses, groups = step(pair('cascade', teacher))
    detector = model_of(teacher)[1]
    features = features_of(detector)
    answers = [
        by_hand(detector, stage, features, group.location)
        for stage, group in zip(stages, groups)
    ]
    assert len(groups) == 3
    assert not torch.equal(groups[0].location, groups[1].location)
    assert losses['loss_kd_cls'].item() == pytest.approx(
        expected_loss(groups, answers), rel=1e-4)
    assert losses['loss_kd_cls'].item() > 1e-4


@torch.no_grad()
def test_seesaw_columns_are_its_probabilities(model_of):
    detector = model_of('seesaw_cascade')[1]
    raw = []
    for head in stages_of(detector):
        head.register_forward_hook(
            lambda _, args, output: raw.append(output[0]))
    with adapter_for(detector, 'student').observe() as observation:
        training_losses(detector)
    for head, logits, group in zip(
            stages_of(detector), raw, observation.groups):
        head._forward_hooks.clear()
        assert logits.shape[1] == NUM_CLASSES + 2
        torch.testing.assert_close(
            group.logits.softmax(1),
            head.loss_cls.get_activation(logits),
            rtol=1e-5,
            atol=1e-7)


@pytest.mark.parametrize('student, teacher', [('seesaw', 'faster'),
                                              ('mask', 'seesaw_cascade'),
                                              ('htc', 'scnet'),
                                              ('scnet', 'mask'),
                                              ('sabl', 'double'),
                                              ('sigmoid', 'eqlv2'),
                                              ('cascade_rpn', 'fcos_rpn'),
                                              ('guided_anchors', 'libra'),
                                              ('faster', 'trident'),
                                              ('trident', 'faster'),
                                              ('trident', 'two_branches')])
def test_other_pairs_take_a_step(pair, student, teacher):
    model = pair(student, teacher)
    losses = training_losses(model)
    assert 1e-5 < losses['loss_kd_cls'].item() < 100
    losses['loss_kd_cls'].backward()
    for head in stages_of(model):
        assert head.fc_cls.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_trident_student_asks_a_teacher_without_branches_thrice(
        model_of, pair):
    """Each branch's RoIs, in the image that they belong to."""
    losses, (group, ) = step(pair('trident', 'faster'))
    teacher = model_of('faster')[1]
    rois = torch.cat(
        [group.image_index[:, None].float(), group.location[:, 1:]], dim=1)
    assert set(group.location[:, 0].tolist()) == set(range(6))
    # Copies of the batch follow one another.
    assert torch.equal(group.image_index, group.location[:, 0].long() % 2)
    answer = by_hand(teacher, 0, features_of(teacher), rois)
    assert losses['loss_kd_cls'].item() == pytest.approx(
        expected_loss([group], [answer]), rel=1e-4)


@pytest.mark.parametrize('student, teacher, words', [
    ('cascade', 'two_stages', ('has 2', 'student 3')),
    ('two_stages', 'cascade', ('has 3', 'student 2')),
])
def test_stages_that_do_not_pair(model_of, student, teacher, words):
    """Not as the same samples; the teacher can be asked at the boxes."""
    adapters = [
        adapter_for(model_of(name)[1], role)
        for name, role in ((student, 'student'), (teacher, 'teacher'))
    ]
    with pytest.raises(InvalidValueError) as caught:
        choose_transport(*adapters, 'same_samples')
    message = str(caught.value)
    assert '\n' not in message
    for adapter in adapters:
        assert adapter.name in message
    for word in words:
        assert word in message, message
    assert "use one of ['rois_at_boxes'" in message
    assert choose_transport(*adapters, 'auto') is RoIsAtBoxes


@pytest.mark.parametrize('student, teacher', [('faster', 'sigmoid'),
                                              ('eqlv2', 'faster'),
                                              ('v3det', 'sigmoid'),
                                              ('faster', 'wide')])
def test_other_columns_are_the_same_samples(model_of, student, teacher):
    """Activation and classes are brought together afterwards."""
    adapters = [
        adapter_for(model_of(name)[1], role)
        for name, role in ((student, 'student'), (teacher, 'teacher'))
    ]
    assert choose_transport(*adapters, 'auto') is SameSamples


REFUSED = {
    'crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman':
    ('CrowdDet', 'MultiInstanceRoIHead', 'set of objects for each RoI'),
}


@pytest.mark.parametrize('packaged', REFUSED)
@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_refused_by_name(packaged, role):
    detector = MODELS.build(small(packaged))
    with pytest.raises(InvalidTypeError) as caught:
        adapter_for(detector, role)
    message = str(caught.value)
    assert '\n' not in message and f'the {role}' in message
    for word in REFUSED[packaged]:
        assert word in message


def test_stages_of_two_kinds_are_refused(model_of):
    with pytest.raises(InvalidTypeError, match='give all stages the same'):
        adapter_for(model_of('mixed')[1], 'student')


def test_cascade_that_ends_early(pair):
    """No proposal at all: the first stage refines none, mmdet stops there."""
    model = pair('cascade', 'cascade')
    nothing = InstanceData(
        bboxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long))
    with mock.patch.object(model.rpn_head, 'predict_by_feat',
                           lambda *_, **__: [nothing.clone(),
                                             nothing.clone()]):
        losses, groups = step(model, num_boxes=0)
    assert len(groups) == 1 and len(groups[0].logits) == 0
    assert 's1.loss_cls' not in losses
    assert losses['loss_kd_cls'].item() == 0
    model.parse_losses(losses)[0].backward()


@pytest.mark.parametrize('name', ['faster', 'cascade', 'seesaw', 'sigmoid'])
def test_half_precision(pair, name):
    """bfloat16 changes the figures a little, and breaks nothing."""
    model = pair(name, name)
    model.teacher.build(model)
    for head in stages_of(model.teacher.detector):
        torch.manual_seed(1)
        head.fc_cls.weight.normal_(0, 0.3)
    expected = training_losses(model)['loss_kd_cls'].item()
    wrapper = CPUAmpOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    with wrapper.optim_context(model):
        losses = training_losses(model)
        total = model.parse_losses(losses)[0]
    total.backward()
    assert losses['loss_kd_cls'].item() == pytest.approx(expected, rel=0.2)
    assert all(weight.grad is None or weight.grad.isfinite().all()
               for weight in model.parameters())
    assert num_hooks(model) == 0


def test_checkpointed_activations_count_no_sample_twice(model_of, pair):
    """The backward pass runs the backbone again, and no head."""
    gradients, totals = [], []
    for name in ('faster', 'checkpointed'):
        model = pair(name, 'mask')
        model.load_state_dict(model_of('faster')[1].state_dict())
        seen = []
        model.backbone.layer4[0].conv1.register_forward_hook(
            lambda *_, seen=seen: seen.append('backbone'))
        model.roi_head.bbox_head.register_forward_hook(
            lambda _, args, output, seen=seen: seen.append(len(output[0])))
        losses, groups = step(model)
        model.parse_losses(losses)[0].backward()
        totals.append(losses['loss_kd_cls'].item())
        gradients.append(model.roi_head.bbox_head.fc_cls.weight.grad)
        assert seen.count(len(groups[0].logits)) == 1
        assert seen.count('backbone') == (2 if name == 'checkpointed' else 1)
    assert totals[0] == totals[1] > 0
    assert torch.equal(*gradients)


@pytest.mark.parametrize('name, count', [('sigmoid', 1), ('eqlv2', 1),
                                         ('v3det', 0), ('faster', 0),
                                         ('seesaw', 0)])
def test_warning_of_softmax_scores_comes_once(pair, name, count):
    model = pair(name, name)
    with mock.patch(LOGGER) as log:
        for _ in range(2):
            training_losses(model)
    assert log.call_count == count
    for call in log.call_args_list:
        assert 'FasterRCNN' in call[0][0] and 'softmax' in call[0][0]


def test_softmax_loss_on_a_sigmoid_student(pair):
    with pytest.raises(InvalidValueError, match='made for softmax heads'):
        pair('sigmoid', 'sigmoid',
             dict(loss_kd_cls=dict(type='tcal_det.LogitKLDivLoss')))
