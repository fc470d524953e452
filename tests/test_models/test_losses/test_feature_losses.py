"""What must hold for every feature loss, whatever its formula."""
import ast
import copy
import inspect
import re

import pytest
import torch
import torch.nn.functional as F

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import FeatureLoss
from tcal_det.registry import MODELS
from tests.test_models.test_losses import feature_cases
from tests.test_models.test_losses.feature_cases import (FEATURE_LOSSES, OTHER,
                                                         OWN, make_loss,
                                                         random_maps,
                                                         random_scene,
                                                         value_of)

ALL = sorted(FEATURE_LOSSES)


def leaves(maps):
    return [level.clone().requires_grad_() for level in maps]


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors, allow_unused=True)


@pytest.mark.parametrize('name', ALL)
def test_is_registered_and_names_its_arguments(name):
    loss = make_loss(name, loss_weight=0.5)
    assert isinstance(loss, FeatureLoss)
    assert MODELS.get(f'tcal_det.{type(loss).__name__}') is type(loss)
    assert 'loss_weight=0.5' in repr(loss)
    assert loss.needs_scores == (name == 'score_weighted')
    assert loss.needs_boxes == (name == 'fgd')
    assert loss.features == ('backbone' if name == 'flow' else 'neck')


def test_every_feature_loss_has_its_case():
    registered = {
        cls
        for cls in MODELS.module_dict.values()
        if isinstance(cls, type) and issubclass(cls, FeatureLoss)
    }
    assert registered == set(FEATURE_LOSSES.values())


@pytest.mark.parametrize('name', ALL)
def test_positive_scalar_and_zero_at_equal_maps(name):
    loss = make_loss(name, OTHER, OTHER)
    student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
    value = value_of(loss, student, teacher)
    assert value.shape == () and value.item() > 0
    same = value_of(loss, leaves(teacher), teacher).item()
    if name in feature_cases.NOT_ZERO_AT_EQUAL:
        assert same > 0
    else:
        assert same == pytest.approx(0, abs=1e-12 * value.item())


@pytest.mark.parametrize('name', ALL)
def test_gradient_against_finite_differences(name):
    """Of the maps and of what learns."""
    sizes = [(3, 4), (2, 2)]
    loss = make_loss(name)
    student = leaves(random_maps(OWN, sizes=sizes))
    teacher = random_maps(OTHER, seed=1, sizes=sizes)
    scene = random_scene(sizes=sizes)
    for weight in loss.parameters():
        # Global context starts with zeros, where its other weights have no
        # gradient.
        weight.data += 0.1 * torch.randn_like(weight)

    def value(*_):
        return value_of(loss, student, teacher, scene)

    assert torch.autograd.gradcheck(
        value, (*student, *loss.parameters()),
        eps=1e-7,
        atol=1e-6,
        fast_mode=True)


@pytest.mark.parametrize('name', ALL)
def test_every_parameter_gets_a_gradient(name):
    """DDP without find_unused_parameters; also of a loss that is off."""
    for weight in (1.0, 0.0):
        loss = make_loss(name, loss_weight=weight)
        value_of(loss, leaves(random_maps(OWN)),
                 random_maps(OTHER, seed=1)).backward()
        for key, parameter in loss.named_parameters():
            assert parameter.grad is not None, key
            assert weight or (parameter.grad == 0).all(), key


@pytest.mark.parametrize('name', ALL)
def test_learns_only_where_it_must(name):
    assert bool(list(make_loss(name, OTHER, OTHER).parameters())) == (
        name in feature_cases.LEARNING)
    keys = {key.split('.')[0] for key, _ in make_loss(name).named_parameters()}
    assert ('projections' in keys) == (name not in ('dpk', 'flow'))


@pytest.mark.parametrize('name', ALL)
def test_no_gradient_into_the_teacher_and_inputs_unchanged(name):
    loss = make_loss(name)
    student, teacher = leaves(random_maps(OWN)), leaves(
        random_maps(OTHER, seed=1))
    before = [level.detach().clone() for level in student + teacher]
    value_of(loss, student, teacher).backward()
    assert all(level.grad is None for level in teacher)
    assert sum(level.grad.abs().sum() for level in student) > 0
    assert all(map(torch.equal, student + teacher, before))


@pytest.mark.parametrize('name', ALL)
def test_loss_weight_scales(name):
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)
    value = value_of(make_loss(name), student, teacher).item()
    quarter = make_loss(name, loss_weight=0.25)
    assert value_of(quarter, student, teacher).item() == pytest.approx(
        value / 4, rel=1e-12)
    assert value_of(make_loss(name, loss_weight=0), student,
                    teacher).item() == 0


@pytest.mark.parametrize('name', ['pkd', 'cwd', 'score_weighted', 'flow'])
def test_levels_are_summed_up(name):
    student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
    scene = random_scene()
    parts = [
        value_of(
            make_loss(name, [channels], [channels]), [student[level]],
            [teacher[level]], scene._replace(scores=[scene.scores[level]]))
        for level, channels in enumerate(OTHER)
    ]
    whole = value_of(make_loss(name, OTHER, OTHER), student, teacher, scene)
    assert whole.item() == pytest.approx(sum(parts).item(), rel=1e-12)
    assert min(parts).item() > 0


# Each image has a mask of its own in MGD.
@pytest.mark.parametrize('name', sorted(set(ALL) - {'mgd'}))
def test_order_of_images_does_not_matter(name):
    loss = make_loss(name)
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)
    scene = random_scene()
    flipped = scene._replace(
        scores=[level.flip(0) for level in scene.scores],
        boxes=scene.boxes[::-1])
    assert value_of(loss, [level.flip(0) for level in student],
                    [level.flip(0) for level in teacher],
                    flipped).item() == pytest.approx(
                        value_of(loss, student, teacher, scene).item(),
                        rel=1e-9)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ALL)
def test_half_precision_is_widened(name, dtype):
    student = [level.to(dtype) for level in random_maps(OWN)]
    teacher = [level.to(dtype) for level in random_maps(OTHER, seed=1)]
    expected = value_of(
        make_loss(name), [level.double() for level in student],
        [level.double() for level in teacher]).item()
    loss = make_loss(name).float()
    scene = random_scene()
    scene = scene._replace(scores=[level.float() for level in scene.scores])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        # The region does round matrix products.
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        value = value_of(loss, leaves(student), teacher, scene)
    assert value.dtype == torch.float32
    # bfloat16 would be off by 1e-2.
    assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('num_images, size', [(1, (1, 1)), (2, (1, 1)),
                                              (1, (1, 2)), (1, (5, 3))])
@pytest.mark.parametrize('kind', ['random', 'zero', 'constant'])
@pytest.mark.parametrize('name', ALL)
def test_small_and_constant_maps_are_finite(name, kind, num_images, size):
    sizes = [size, size]
    student = random_maps(OWN, sizes=sizes, num_images=num_images)
    if kind != 'random':
        # As of a channel that a ReLU has switched off.
        student = [
            level * 0 + (0.1 if kind == 'constant' else 0) for level in student
        ]
    student = leaves(level.float() for level in student)
    teacher = [
        level.float() for level in random_maps(
            OTHER, seed=1, sizes=sizes, num_images=num_images)
    ]
    scene = random_scene(sizes=sizes, num_images=num_images)
    for its in (teacher, [level * 0 + 0.7 for level in teacher]):
        value = value_of(make_loss(name).float(), student, its, scene)
        assert torch.isfinite(value) and value >= 0
        for gradient in gradients(value, student):
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize('name', ['pkd', 'cwd', 'flow'])
def test_single_position_says_nothing(name):
    sizes = [(1, 1), (1, 1)]
    value = value_of(
        make_loss(name), random_maps(OWN, sizes=sizes, num_images=1),
        random_maps(OTHER, seed=1, sizes=sizes, num_images=1))
    assert value.item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize('name', ALL)
def test_student_of_another_size_is_resized(name):
    halves = [(2, 3), (1, 2)]
    student = random_maps(OTHER, sizes=halves)
    teacher = random_maps(OTHER, seed=1)
    resized = [
        F.interpolate(level, size=size, mode='bilinear', align_corners=False)
        for level, size in zip(student, feature_cases.SIZES)
    ]
    loss = make_loss(name, OTHER, OTHER)
    assert value_of(loss, student, teacher).item() == pytest.approx(
        value_of(loss, resized, teacher).item(), rel=1e-12)


@pytest.mark.parametrize('name', sorted(set(ALL) - {'flow', 'dpk'}))
def test_projection_is_a_matrix_at_each_position(name):
    loss = make_loss(name)
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)
    matrix = loss.projections[0].weight.detach()[:, :, 0, 0]
    first = torch.einsum('ed,ndhw->nehw', matrix, student[0])
    first += loss.projections[0].bias.detach()[:, None, None]
    # The channels of the second level are equal.
    assert isinstance(loss.projections[1], torch.nn.Identity)
    expected = value_of(loss, student, teacher).item()
    loss.projections[0] = torch.nn.Identity()
    loss.student_channels = OTHER
    assert value_of(loss, [first, student[1]], teacher).item() == (
        pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize('name',
                         sorted(set(ALL) - feature_cases.WITHOUT_CHANNELS))
def test_channels_that_do_not_fit(name):
    loss = make_loss(name)
    with pytest.raises(
            InvalidValueError,
            match=r'channels of the 2 levels that are compared, \[6, 4\] and '
            r'\[5, 4\], but got \[3, 4\] and \[5, 4\]: give '
            r'student_channels=\[6, 4\], teacher_channels=\[5, 4\]'):
        value_of(loss, random_maps([6, 4]), random_maps(OTHER))
    with pytest.raises(InvalidValueError, match='of the 1 levels'):
        value_of(loss, random_maps(OWN)[:1], random_maps(OTHER)[:1])


@pytest.mark.parametrize('name', ['pkd', 'cwd', 'score_weighted'])
def test_unlike_channels_need_to_be_said(name):
    loss = FEATURE_LOSSES[name]()
    student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
    assert value_of(loss, student, teacher).item() > 0
    with pytest.raises(
            InvalidValueError,
            match=r'\[3, 4\] and \[5, 4\], but got none: give '
            r'student_channels=\[3, 4\], teacher_channels=\[5, 4\]'):
        value_of(loss, random_maps(OWN), teacher)


@pytest.mark.parametrize('name',
                         sorted(set(ALL) - feature_cases.WITHOUT_CHANNELS))
@pytest.mark.parametrize('channels, words', [
    ((None, [4]), '`student_channels` must be'),
    (([4], [4, 4]), r'an entry for each level, but got \[4\] and \[4, 4\]'),
    (([0], [4]), '`student_channels` must be'),
    ((4, [4]), '`student_channels` must be a list'),
    (([], []), '`student_channels` must be a list'),
])
def test_bad_channels_are_named(name, channels, words):
    student, teacher = channels
    with pytest.raises((InvalidValueError, InvalidTypeError), match=words):
        FEATURE_LOSSES[name](
            student_channels=student, teacher_channels=teacher)


@pytest.mark.parametrize('name', sorted(feature_cases.LEARNING))
def test_what_learns_needs_channels(name):
    with pytest.raises(
            InvalidTypeError,
            match=f'`student_channels`.*{FEATURE_LOSSES[name].__name__} has '
            'learnable parts'):
        FEATURE_LOSSES[name](student_channels=None)
    # Those of the teacher are the student's if they are left out.
    assert FEATURE_LOSSES[name](student_channels=OWN).teacher_channels == OWN


@pytest.mark.parametrize('name', ALL)
def test_bad_weight_and_features_are_named(name):
    with pytest.raises(InvalidValueError, match='`loss_weight`.*-1'):
        make_loss(name, loss_weight=-1)
    if name != 'score_weighted':
        with pytest.raises(
                InvalidValueError, match="`features`.*'neck' or 'backbone'"):
            make_loss(name, features='head')


@pytest.mark.parametrize('name', ALL)
def test_descent_brings_the_loss_down(name):
    loss = make_loss(name)
    student, teacher = leaves(random_maps(OWN)), random_maps(OTHER, seed=1)
    optimizer = torch.optim.Adam([*student, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(80):
        optimizer.zero_grad()
        value = loss(student, teacher, random_scene())
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) < 0.7 * sum(values[:10])


@pytest.mark.parametrize('name', ALL)
def test_random_stream_of_the_training_is_not_moved(name):
    loss = make_loss(name)
    state = torch.get_rng_state()
    loss(random_maps(OWN), random_maps(OTHER, seed=1), random_scene())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('name', ALL)
def test_draws_go_on_after_a_copy_or_a_checkpoint(name):
    loss = make_loss(name, **(dict(num_samples=3) if name == 'flow' else {}))
    student, teacher = random_maps(OWN), random_maps(OTHER, seed=1)

    def step(module):
        return module(student, teacher, random_scene()).item()

    first = step(loss)
    copied = copy.deepcopy(loss)
    torch.manual_seed(7)
    arguments = inspect.signature(type(loss)).parameters
    resumed = type(loss)(**{
        key: getattr(loss, key)
        for key in arguments
    }).double()
    resumed.load_state_dict(loss.state_dict())
    second = step(loss)
    assert (first != second) == (name in feature_cases.DRAWING)
    assert step(copied) == step(resumed) == second


@pytest.mark.parametrize('loss', sorted(FEATURE_LOSSES.values(), key=str))
def test_defaults_are_the_documented_ones(loss):
    attributes = vars(
        loss(**(dict(student_channels=[4]) if loss.needs_channels else {})))
    arguments = (loss.__doc__.split('Args:') + [''])[1].split('Reference')[0]
    documented = {}
    for argument in re.split(r'\n {8}(?=\w)', arguments)[1:]:
        name = argument.split(' ', 1)[0]
        value = re.search(r"Defaults\s+to\s+('\w+'|[\d.]*\d)", argument)
        if value:
            documented[name] = ast.literal_eval(value[1])
    assert documented or loss in (FEATURE_LOSSES['pkd'],
                                  FEATURE_LOSSES['score_weighted'])
    assert documented == {name: attributes[name] for name in documented}
