"""How sure a dense head is of an object, at each place of its maps."""
import pytest
import torch
from mmdet.registry import MODELS

from tcal_det.models.head_adapters import adapter_for, recorded_calls
from tests import head_families
from tests.dense_cases import HEADS, batch, build, tiny_model


@pytest.mark.parametrize('name', HEADS)
def test_scores_of_every_dense_head(name):
    """Of the maps' sizes, the best of the samples that the head classifies."""
    detector = build(tiny_model(name)).eval()
    adapter = adapter_for(detector, 'teacher')
    assert adapter.reason_against_scoring() is None
    images, samples = batch(name)
    with torch.no_grad():
        maps = detector.extract_feat(images)
        with recorded_calls({'head.0': adapter.parts['head.0']}) as calls:
            seen = adapter.prepare_batch(images, samples)
        scores = adapter.score_maps(maps, calls['head.0'], lambda one: one)
        again = adapter.score_maps(maps, None, lambda one: one)
    assert len(scores) == len(seen)
    for places, its, (logits, size) in zip(scores, again, seen):
        assert places.shape == (len(images), 1, *size)
        torch.testing.assert_close(places, its)
        probabilities = (
            logits.sigmoid()
            if adapter.activation == 'sigmoid' else logits.softmax(1)[:, :-1])
        rows = probabilities.amax(1).view(len(images), -1)
        # Places come one after another, with their priors.
        priors = rows.shape[1] // (size[0] * size[1])
        best = torch.stack([rows[:, first::priors]
                            for first in range(priors)]).amax(0)
        torch.testing.assert_close(places.flatten(1), best)


def test_scores_of_an_rpn():
    """Objectness of the anchor that is most probably an object."""
    detector = head_families.build(
        head_families.detector_cfg('faster'), MODELS).eval()
    adapter = adapter_for(detector, 'teacher')
    assert adapter.reason_against_scoring() is None
    with torch.no_grad():
        maps = detector.extract_feat(torch.randn(2, 3, 64, 96))
        scores = adapter.score_maps(maps, None, lambda one: one)
        logits = detector.rpn_head(maps)[0]
    assert len(scores) == len(logits) == 5
    for places, level in zip(scores, logits):
        torch.testing.assert_close(places[:, 0], level.sigmoid().amax(dim=1))


def test_rpn_that_takes_softmax():
    """Its maps have two columns an anchor."""
    cfg = head_families.detector_cfg('faster')
    cfg.rpn_head.loss_cls = dict(type='CrossEntropyLoss', use_sigmoid=False)
    adapter = adapter_for(head_families.build(cfg, MODELS), 'teacher')
    assert 'softmax' in adapter.reason_against_scoring()
