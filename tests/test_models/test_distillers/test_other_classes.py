"""A teacher that knows other classes, in a whole training step."""
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from tests.head_families import bbox_heads, distiller_cfg, write_teacher

OWN = ('cat', 'dog', 'cow')


@pytest.fixture
def trained_on():
    """Say what the train dataset's classes are, as mmengine's Runner does."""
    hub = MessageHub.get_current_instance()
    before = hub.get_info('dataset_meta')

    def say(*classes):
        hub.update_info('dataset_meta', dict(classes=classes))

    yield say
    hub.update_info('dataset_meta', before)


def classifier_of(state):
    """Weight and bias of the last layer, with a row for each class."""
    kind = ('fc_cls' if any('fc_cls' in key
                            for key in state) else 'retina_cls')
    return [value for key, value in state.items() if kind in key]


def as_known(teacher, names, order=None):
    """Give a teacher's checkpoint names, and its rows another order."""
    content = torch.load(teacher['checkpoint'])
    if order is not None:
        for values in classifier_of(content['state_dict']):
            rows = values[:len(values) - len(values) % 3].view(
                -1, 3, *values.shape[1:])
            rows.copy_(rows[:, order].clone())
    if names is not None:
        content['meta'] = dict(dataset_meta=dict(classes=names))
    path = teacher['checkpoint'].replace('.pth', '_known.pth')
    torch.save(content, path)
    return dict(teacher, checkpoint=path)


def step(cfg, training_step, num_classes=3):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    losses, total = training_step(model, num_classes=num_classes)
    total.backward()
    return (losses['loss_kd_cls'],
            [weight.grad for weight in model.parameters()])


@pytest.mark.parametrize('family', ['faster', 'retinanet'])
def test_permuted_classes_give_the_very_loss(tmp_path, training_step,
                                             trained_on, family):
    """To the last digit, gradients too; without names another loss."""
    trained_on(*OWN)
    teacher = write_teacher(tmp_path, family)
    expected = step(
        distiller_cfg(family, as_known(teacher, OWN)), training_step)
    # Row i of the permuted head is that of class order[i].
    order = [2, 0, 1]
    permuted = as_known(teacher, [OWN[label] for label in order], order)
    loss, gradients = step(distiller_cfg(family, permuted), training_step)
    assert loss > 0 and torch.equal(loss, expected[0])
    for one, other in zip(gradients, expected[1]):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    unnamed = as_known(teacher, None, order)
    assert not torch.equal(
        step(distiller_cfg(family, unnamed), training_step)[0], expected[0])


@pytest.mark.parametrize('classes', [{
    0: 2,
    1: 0,
    2: 1
}, dict(x='cow', y='cat', z='dog')])
def test_a_dict_does_what_names_do(tmp_path, training_step, trained_on,
                                   classes):
    trained_on(*OWN)
    teacher = write_teacher(tmp_path, 'faster')
    expected, _ = step(
        distiller_cfg('faster', as_known(teacher, OWN)), training_step)
    names = None if 0 in classes else ('x', 'y', 'z')
    permuted = dict(as_known(teacher, names, [2, 0, 1]), classes=classes)
    loss, _ = step(distiller_cfg('faster', permuted), training_step)
    assert torch.equal(loss, expected)


def test_calibrated_in_its_own_classes_then_merged(tmp_path, training_step,
                                                   trained_on):
    """By the formulas, from the logits of both heads."""
    trained_on(*OWN)
    names = ('horse', 'dog', 'car', 'cat', 'hound')
    teacher = as_known(write_teacher(tmp_path, 'faster', num_classes=5), names)
    teacher['classes'] = dict(hound='dog')
    model = MODELS.build(distiller_cfg('faster', teacher))
    model.init_weights()
    heard = {}

    def listen(name):
        return lambda *args: heard.update({name: args[2][0].detach()})

    # Twice in a step of the student: its own, and none of the teacher's.
    model.roi_head.bbox_head.register_forward_hook(listen('student'))
    model.teacher.detector.roi_head.bbox_head.register_forward_hook(
        listen('teacher'))
    losses, _ = training_step(model)
    # The tiny teacher's temperature in FAMILIES.
    teacher_probs = (heard['teacher'].double() / 2).softmax(1)
    student_probs = heard['student'].double().softmax(1)
    expected = 0.0
    for p, q in zip(teacher_probs.tolist(), student_probs.tolist()):
        merged = [(p[3], q[0]), (p[1] + p[4], q[1]),
                  (p[0] + p[2] + p[5], q[2] + q[3])]
        expected += math.fsum(a * math.log(a / b) for a, b in merged)
    expected /= len(student_probs)
    assert losses['loss_kd_cls'].item() == pytest.approx(expected, rel=1e-4)


def test_classes_of_its_own_are_not_taught(tmp_path, training_step,
                                           trained_on):
    """A dense student: their columns get no gradient of the KD term."""
    trained_on(*OWN)
    teacher = as_known(
        write_teacher(tmp_path, 'retinanet', num_classes=2), ('dog', 'car'))
    model = MODELS.build(distiller_cfg('retinanet', teacher))
    losses, _ = training_step(model)
    losses['loss_kd_cls'].backward()
    gradient = model.bbox_head.retina_cls.weight.grad.view(
        -1, 3, *model.bbox_head.retina_cls.weight.shape[1:])
    assert (gradient[:, 1] != 0).any()
    assert (gradient[:, [0, 2]] == 0).all()


@pytest.mark.parametrize('family', ['faster', 'retinanet'])
@pytest.mark.parametrize('samples', ['foreground', 'balanced'])
def test_samples_of_shared_classes_count_as_foreground(tmp_path, training_step,
                                                       trained_on, family,
                                                       samples):
    trained_on(*OWN)
    teacher = as_known(
        write_teacher(tmp_path, family, num_classes=1), ('cow', ))
    kind = dict(faster='LogitKLDivLoss', retinanet='LogitBinaryKLDivLoss')
    cfg = distiller_cfg(
        family, teacher, loss=dict(type=kind[family], samples=samples))
    loss, _ = step(cfg, training_step)
    assert loss.isfinite() and loss > 0


@pytest.mark.parametrize('names, own, classes, message', [
    (('x', 'y', 'z'), OWN, 'auto', 'must share a class'),
    (OWN, OWN, dict(cat='horse'),
     "'horse' is not one of 3 ('cat', 'dog', 'cow"),
    (OWN, OWN, dict(horse='cat'),
     "'horse' is not one of 3 ('cat', 'dog', 'cow"),
    (OWN, None, dict(cat='cow'), 'the train dataset must have the 3 class'),
])
def test_names_that_do_not_fit(tmp_path, training_step, trained_on, names, own,
                               classes, message):
    trained_on(*(own or ()))
    teacher = dict(
        as_known(write_teacher(tmp_path, 'faster'), names), classes=classes)
    with pytest.raises(InvalidValueError) as info:
        step(distiller_cfg('faster', teacher), training_step)
    assert message in str(info.value) and '\n' not in str(info.value)


def test_without_names_another_number_is_refused(tmp_path):
    """Before training starts; labels as a dict are the remedy."""
    teacher = write_teacher(tmp_path, 'faster', num_classes=5)
    model = MODELS.build(distiller_cfg('faster', teacher))
    with pytest.raises(InvalidValueError) as info:
        model.init_weights()
    message = str(info.value)
    assert 'teacher FasterRCNN has 5 and the student FasterRCNN 3' in message
    assert 'pairs of labels as `teacher.classes`' in message
    model = MODELS.build(
        distiller_cfg('faster', dict(teacher, classes={4: 0})))
    model.init_weights()
    model = MODELS.build(
        distiller_cfg('faster', dict(teacher, classes=dict(cat='cat'))))
    with pytest.raises(InvalidValueError, match=r"as labels .*\['cat'\]"):
        model.init_weights()


def test_map_of_another_kind(tmp_path):
    teacher = dict(write_teacher(tmp_path, 'faster'), classes=['cat'])
    with pytest.raises(InvalidTypeError, match='`teacher.classes` must be'):
        MODELS.build(distiller_cfg('faster', teacher))


def test_classes_of_a_config_file(tmp_path):
    """Labels as keys come through mmengine's Config and its dump."""
    cfg = Config(dict(model=dict(teacher=dict(classes={4: 0, 'a b': 'c'}))))
    path = str(tmp_path / 'config.py')
    cfg.dump(path)
    assert dict(Config.fromfile(path).model.teacher.classes) == {
        4: 0,
        'a b': 'c'
    }


def test_the_head_of_a_tiny_detector_is_what_is_permuted(tmp_path):
    """All classifying layers, so that the test above tests something."""
    for family in ('faster', 'retinanet'):
        state = torch.load(write_teacher(tmp_path,
                                         family)['checkpoint'])['state_dict']
        assert len(classifier_of(state)) == 2
        cfg = distiller_cfg(family, dict(config='x', checkpoint='x'))
        assert bbox_heads(cfg)[0].num_classes == 3
