"""Dynamic prior knowledge: alikeness, mask, hybrid and restoration."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.models.losses import DPKLoss
from tcal_det.models.losses.dpk_loss import linear_cka
from tests.test_models.test_losses.feature_cases import (OTHER, OWN, SIZES,
                                                         make_loss,
                                                         random_maps, value_of)


def kernel_cka(one, other):
    """By the kernels of the samples, as HSIC is defined."""
    number = len(one)
    centre = np.eye(number) - 1 / number
    kernels = [centre @ rows @ rows.T @ centre for rows in (one, other)]

    def hsic(first, second):
        return np.trace(first @ second)

    return hsic(*kernels) / np.sqrt(
        hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1]))


class TestLinearCKA:

    def test_by_hand(self):
        """One column each: the squared correlation."""
        one = torch.tensor([[1.], [2.], [3.]])
        other = torch.tensor([[1.], [3.], [2.]])
        assert linear_cka(one, other).item() == pytest.approx(0.25, rel=1e-6)

    @given(
        st.integers(2, 12), st.integers(1, 4), st.integers(1, 4),
        st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_by_the_kernels(self, number, width, other_width, seed):
        rng = np.random.default_rng(seed)
        one, other = rng.normal(size=(number, width)), rng.normal(
            size=(number, other_width))
        value = linear_cka(torch.tensor(one), torch.tensor(other)).item()
        assert value == pytest.approx(kernel_cka(one, other), abs=1e-9)
        assert -1e-12 < value < 1 + 1e-9

    def test_rotation_scale_and_offset_do_not_matter(self):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(9, 4))
        rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        moved = 3 * rows @ rotation + rng.normal(size=4)
        assert linear_cka(torch.tensor(rows),
                          torch.tensor(moved)).item() == pytest.approx(1)

    def test_what_does_not_vary_is_like_nothing(self):
        rows = torch.rand(5, 3)
        assert linear_cka(rows, torch.ones(5, 2)).item() == 0


def encoded(loss, student, teacher, level):
    """Rows of the patches of one level, as the encoders see them."""
    rows = []
    for maps, encoders in ((student, loss.student_encoders),
                           (teacher, loss.teacher_encoders)):
        rows.append(encoders[level](maps[level]).detach().permute(
            0, 2, 3, 1).flatten(0, 2).numpy())
    return rows


# Whole patches of 2.
EVEN = [(4, 6), (2, 4)]


def test_similarity_is_a_moving_average():
    loss = make_loss('dpk')
    assert loss.similarity.tolist() == [0.5, 0.5]
    expected = np.array([0.5, 0.5])
    for seed in range(3):
        student = random_maps(OWN, seed, sizes=EVEN)
        teacher = random_maps(OTHER, seed + 10, sizes=EVEN)
        found = [
            kernel_cka(*encoded(loss, student, teacher, level))
            for level in range(2)
        ]
        expected = 0.9 * expected + 0.1 * np.array(found)
        loss(student, teacher)
        np.testing.assert_allclose(loss.similarity.numpy(), expected, 1e-9)


def test_equal_models_are_alike():
    """Of equal maps and encoders the CKA is 1: 0.9 x 0.5 + 0.1."""
    loss = make_loss('dpk', OTHER, OTHER)
    loss.student_encoders.load_state_dict(loss.teacher_encoders.state_dict())
    maps = random_maps(OTHER)
    value_of(loss, maps, maps)
    assert loss.similarity.tolist() == pytest.approx([0.55, 0.55])


def test_single_patch_leaves_it():
    loss = make_loss('dpk', patch_size=8)
    loss(
        random_maps(OWN, num_images=1),
        random_maps(OTHER, seed=1, num_images=1))
    assert loss.similarity.tolist() == [0.5, 0.5]


@pytest.mark.parametrize('similarity', [0.1, 0.5, 0.8])
def test_share_that_is_given_falls_with_the_similarity(similarity):
    """Of 800 patches, for all images alike."""
    loss = make_loss(
        'dpk', [2], [2], start_similarity=similarity, momentum=1.0)
    with torch.no_grad():
        for encoder, value in ((loss.student_encoders[0], 0.0),
                               (loss.teacher_encoders[0], 1.0)):
            encoder[2].weight.zero_()
            encoder[2].bias.fill_(value)
    seen = []
    loss.decoders[0].register_forward_pre_hook(
        lambda _, args: seen.append(args[0].detach()))
    maps = random_maps([2], sizes=[(40, 80)])
    for _ in range(2):
        loss(maps, maps)
    first, second = seen
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(first, first[:1, :1].expand_as(first))
    assert not torch.equal(first, second)
    # Six deviations of a binomial.
    assert first.mean().item() == pytest.approx(1 - similarity, abs=0.11)


def test_ends_of_the_similarity():
    """All of the student's patches, or all of the teacher's."""
    for similarity, is_taught in ((1.0, True), (0.0, False)):
        loss = make_loss('dpk', start_similarity=similarity, momentum=1.0)
        student = [level.requires_grad_() for level in random_maps(OWN)]
        value_of(loss, student, random_maps(OTHER, seed=1)).backward()
        for level in student:
            assert (level.grad.abs().sum() > 0) == is_taught
        for weight in loss.teacher_encoders.parameters():
            assert (weight.grad.abs().sum() > 0) != is_taught


def test_by_the_formula():
    """With all of the student's patches: matrices on patches."""
    loss = make_loss('dpk', [3], [5], start_similarity=1.0, momentum=1.0)
    (student, ), (teacher, ) = (random_maps([3], sizes=[(2, 2)]),
                                random_maps([5], seed=1, sizes=[(2, 2)]))
    first, _, second = loss.student_encoders[0]
    third, _, last = loss.decoders[0]
    # One patch: of a 3x3 convolution its centre alone meets no filling.
    rows = student.flatten(1) @ first.weight.flatten(1).T + first.bias
    rows = rows.clamp(min=0) @ second.weight[:, :, 1, 1].T + second.bias
    rows = (rows @ third.weight[:, :, 1, 1].T + third.bias).clamp(min=0)
    restored = rows @ last.weight.flatten(1) + last.bias.repeat_interleave(4)
    expected = ((restored - teacher.flatten(1))**2).mean()
    assert value_of(loss, [student], [teacher]).item() == pytest.approx(
        expected.item(), rel=1e-10)


def test_maps_are_filled_up_to_whole_patches():
    """3 x 5 positions are restored, whatever the decoder says beyond."""
    loss = make_loss('dpk', [3], [5], patch_size=4)
    student, = random_maps([3], sizes=[(3, 5)])
    teacher, = random_maps([5], seed=1, sizes=[(3, 5)])
    filled = [
        torch.nn.functional.pad(maps, (0, 3, 0, 1))
        for maps in (student, teacher)
    ]
    seen = []
    loss.decoders[0].register_forward_hook(
        lambda *args: seen.append(args[2].detach()))
    value = value_of(loss, [student], [teacher])
    value_of(loss, [filled[0]], [filled[1]])
    assert torch.equal(*seen) and seen[0].shape[-2:] == (4, 8)
    expected = ((seen[0][..., :3, :5] - teacher)**2).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize('arguments', [
    dict(patch_size=0),
    dict(momentum=1.5),
    dict(start_similarity=-0.5),
])
def test_arguments_are_checked(arguments):
    name, = arguments
    with pytest.raises(InvalidValueError, match=f'`{name}`'):
        DPKLoss(student_channels=[4], **arguments)


def test_similarity_is_in_the_checkpoint():
    loss = make_loss('dpk')
    loss(random_maps(OWN), random_maps(OTHER, seed=1))
    resumed = make_loss('dpk')
    resumed.load_state_dict(loss.state_dict())
    assert torch.equal(resumed.similarity, loss.similarity)
    assert not torch.equal(resumed.similarity,
                           torch.full((len(SIZES), ), 0.5).double())
