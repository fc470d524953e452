"""A student's decoder asked at its teacher's queries."""
from unittest import mock

import pytest
import torch
from mmdet import __version__ as mmdet_version
from mmengine.config import ConfigDict

from tcal_det.errors import InvalidValueError
from tcal_det.models.head_adapters import adapter_for
from tests.query_cases import (NUM_CLASSES, NUM_LAYERS, NUM_QUERIES,
                               assert_same_training, batch, build, distiller,
                               kd_loss, tiny_model)

QUERY_SHARING = [
    'ConditionalDETR', 'DABDETR', 'TwoStageDeformableDETR', 'DINO'
]
EVERY = pytest.mark.parametrize('name', QUERY_SHARING)
# onedl's DINO encodes places in the width of the transformer.
IS_MODERN = tuple(map(int, mmdet_version.split('.')[:2])) > (3, 3)


def pair(folder, name, teacher=None, losses=None, **options):
    options.setdefault('transport', 'shared_queries')
    return distiller(folder, tiny_model(name),
                     kd_loss(name) if losses is None else losses, teacher,
                     **options)


def asked(name, teacher, student):
    """The teacher's answers, and the student's to the same queries."""
    images, data_samples = batch(name)
    adapters = [
        adapter_for(one, role)
        for one, role in ((teacher.eval(), 'teacher'), (student, 'student'))
    ]
    with torch.no_grad():
        queries, answers = adapters[0].predict_queries(images, data_samples)
    with adapters[1].observe(data_samples) as observation:
        student.loss(images, data_samples)
    return answers, adapters[1].classify_queries(observation,
                                                 queries), observation


@EVERY
@pytest.mark.parametrize('layers', ['last', 'all'])
def test_equal_weights_teach_nothing(tmp_path, name, layers):
    terms = [
        pair(tmp_path, name, teacher_seed=seed,
             decoder_layers=layers).loss(*batch(name))['loss_kd_cls'].item()
        for seed in range(2)
    ]
    assert abs(terms[0]) < 1e-6
    assert terms[1] > 1e-2


@EVERY
def test_equal_weights_give_equal_logits(name):
    answers, groups, observation = asked(name, build(tiny_model(name)),
                                         build(tiny_model(name)))
    assert len(answers) == len(groups) == NUM_LAYERS
    for layer, (logits, group) in enumerate(zip(answers, groups)):
        assert logits.shape == (2 * NUM_QUERIES, NUM_CLASSES)
        torch.testing.assert_close(
            group.logits.detach(), logits, rtol=0, atol=1e-5)
        assert group.stage == layer
        assert group.labels is None and group.weight is None
        assert group.avg_factor is observation.groups[layer].avg_factor
        assert group.image_index.tolist() == ([0] * NUM_QUERIES +
                                              [1] * NUM_QUERIES)


@EVERY
def test_queries_are_the_teachers(name):
    """Other weights, and more queries than the student has of its own."""
    teacher = build(tiny_model(name, num_queries=20), seed=1)
    answers, groups, _ = asked(name, teacher, build(tiny_model(name)))
    for logits, group in zip(answers, groups):
        assert len(group.logits) == len(logits) == 40
        assert (group.logits - logits).abs().max() > 1e-2


@EVERY
def test_graph_reaches_the_backbone(tmp_path, name):
    model = pair(tmp_path, name, teacher_seed=1)
    runs = []
    model.backbone.register_forward_hook(lambda *_: runs.append('backbone'))
    model.encoder.register_forward_hook(lambda *_: runs.append('encoder'))
    model.decoder.register_forward_hook(lambda *_: runs.append('decoder'))
    losses = model.loss(*batch(name))
    assert runs == ['backbone', 'encoder', 'decoder', 'decoder']
    losses['loss_kd_cls'].backward()
    for part in (model.backbone, model.encoder, model.decoder):
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0
                   for weight in part.parameters())


@EVERY
def test_off_is_the_plain_detector(tmp_path, name):
    losses = kd_loss(name, loss_weight=0.0)
    assert_same_training(
        build(tiny_model(name)),
        pair(tmp_path, name, losses=losses, teacher_seed=1), name)


def test_second_run_moves_no_random_stream(tmp_path):
    """Packaged detectors have dropout."""
    cfg = tiny_model('DINO')
    cfg.decoder.layer_cfg.self_attn_cfg.dropout = 0.5
    losses = kd_loss('DINO', loss_weight=0.0)
    model = distiller(
        tmp_path, cfg, losses, teacher_seed=1, transport='shared_queries')
    plain = build(cfg)
    torch.manual_seed(0)
    expected, stream = losses_of(plain, 'DINO')
    torch.manual_seed(0)
    found, its_stream = losses_of(model, 'DINO')
    assert torch.equal(stream, its_stream)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def losses_of(model, name):
    """Losses of a step, and the state of torch's random numbers after it."""
    images, data_samples = batch(name)
    return model.loss(images, data_samples), torch.get_rng_state()


@EVERY
def test_batch_without_objects(tmp_path, name):
    model = pair(tmp_path, name, teacher_seed=1)
    total, logged = model.parse_losses(model.loss(*batch(name, (0, 0))))
    total.backward()
    assert logged['loss_kd_cls'].isfinite()


def test_other_width(tmp_path):
    """A box is a box: DAB's queries are four numbers in any width."""
    teacher = tiny_model('DABDETR', width=64)
    losses = pair(tmp_path, 'DABDETR', teacher).loss(*batch('DABDETR'))
    assert losses['loss_kd_cls'].item() > 0


@pytest.mark.skipif(not IS_MODERN, reason='mmdet 3.3 fixes the width of DINO')
@pytest.mark.parametrize('num_queries', [8, 20])
def test_other_width_of_dino(tmp_path, num_queries):
    teacher = tiny_model('DINO', num_queries=num_queries, width=64)
    losses = pair(tmp_path, 'DINO', teacher).loss(*batch('DINO'))
    assert losses['loss_kd_cls'].item() > 0


def test_content_of_a_wider_teacher_is_the_students_own():
    """In turn, where the teacher has more queries."""
    student = build(tiny_model('DINO'))
    inputs = []
    student.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append(kwargs), with_kwargs=True)
    images, data_samples = batch('DINO')
    adapter = adapter_for(student, 'student')
    with adapter.observe(data_samples) as observation:
        student.loss(images, data_samples)
    boxes = torch.rand(2, NUM_QUERIES + 3, 4) * 0.5 + 0.2
    adapter.classify_queries(
        observation,
        dict(
            reference_points=boxes, query=torch.zeros(2, NUM_QUERIES + 3,
                                                      512)))
    own = student.query_embedding.weight
    for content in inputs[-1]['query']:
        assert torch.equal(content, torch.cat([own, own[:3]]))
    assert inputs[-1]['reference_points'] is boxes
    assert inputs[-1]['self_attn_mask'] is None
    assert inputs[0]['self_attn_mask'] is not None


def with_patterns(model):
    model.num_patterns = 2


@pytest.mark.parametrize('student, teacher, edit, words', [
    ('DETR', 'DETR', None, 'are not positions that another decoder'),
    ('DDQDETR', 'DDQDETR', None, 'are not positions that another decoder'),
    ('SparseRCNN', 'SparseRCNN', None, 'are not positions that another'),
    ('DINO', 'DeformableDETR', None, 'are not positions that another'),
    ('DABDETR', 'DINO', None, 'the teacher has the `bbox_head` DINOHead and '
     'the student DABDETRHead'),
    ('SparseRCNN', 'DINO', None, 'the teacher has the `bbox_head` DINOHead'),
    ('DeformableDETR', 'TwoStageDeformableDETR', None,
     'the student is not a two-stage detector'),
    ('DABDETR', 'DABDETR', with_patterns, '`num_patterns` must be 0 in both'),
])
def test_pairs_that_cannot_share(tmp_path, student, teacher, edit, words):
    cfg = ConfigDict(tiny_model(teacher))
    if edit is not None:
        edit(cfg)
    model = pair(tmp_path, student, cfg)
    with pytest.raises(InvalidValueError) as caught:
        model.teacher.build(model)
    message = str(caught.value)
    assert words in message and '\n' not in message
    assert "use one of ['matched_predictions']" in message


def test_places_of_other_widths():
    """Conditional DETR's are vectors of the width of the transformer."""
    detector = build(tiny_model('ConditionalDETR'))
    adapter = adapter_for(detector, 'teacher')
    other = adapter_for(build(tiny_model('ConditionalDETR')), 'student')
    assert adapter.reason_against_sharing(other) is None
    with mock.patch.object(other.detector.query_embedding, 'embedding_dim',
                           128):
        reason = adapter.reason_against_sharing(other)
    assert 'the teacher has 256 and the student 128' in reason
