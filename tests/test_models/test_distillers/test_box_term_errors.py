"""Losses on boxes of detectors that have none of that form."""
import pytest
from mmengine.config import ConfigDict

from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers.terms import term_of
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS
from tests import query_cases, roi_cases
from tests.box_term_cases import NAME
from tests.head_families import build, distiller_cfg, write_teacher

LD, BOX, RPN = (
    dict(type=f'{name}DistillationLoss')
    for name in ('Localization', 'Box', 'RPN'))

SMOOTH_L1 = dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.75)


def anchors(model):
    generator = (model.get('rpn_head') or model.bbox_head).anchor_generator
    generator.ratios = generator.ratios[::-1]


def strides(model):
    model.neck.num_outs = 4
    generator = model.rpn_head.anchor_generator
    generator.strides = generator.strides[:4]


CASES = [
    ('faster', 'faster', None, LD,
     r'cannot teach it distributions .*\(only a GFLHead .*\): choose Box'),
    ('gfl', 'retinanet', None, LD,
     r'predicts no distributions .*: choose a teacher with one, or Box'),
    ('gfl', 'gfl', lambda model: model.bbox_head.update(reg_max=5), LD,
     r'must have the `reg_max` of its student, but has 5 and the student 8'),
    ('gfl', 'faster', None, BOX,
     r'cannot teach it boxes: the two have different samples.*: choose two'),
    ('faster', 'cascade', None, BOX,
     r'must have the same number of stages.* has 3 and the student 1: choose'),
    ('retinanet', 'retinanet', None, RPN,
     r'cannot teach it an RPN: the student has no RPN: choose two'),
    ('faster', 'retinanet', None, RPN, r'has no RPN: choose two detectors'),
    ('faster', 'faster', anchors, RPN,
     r'must have the same anchors .*: change `anchor_generator`'),
    ('faster', 'faster', strides, RPN,
     r'must have an RPN on maps of the same strides, but has .*: choose'),
    ('faster', 'faster',
     lambda model: model.rpn_head.update(loss_cls=dict(use_sigmoid=False)),
     RPN, r'has an RPNHead with softmax instead of sigmoid: choose two'),
]


@pytest.mark.parametrize('student, teacher, edit, loss, message', CASES)
def test_refused_when_training_starts(tmp_path, training_step, student,
                                      teacher, edit, loss, message):
    files = write_teacher(tmp_path, teacher, edit=edit)
    cfg = distiller_cfg(student, files, calibrator=None)
    cfg.distill_losses = ConfigDict({NAME: loss})
    model = build(cfg, MODELS)
    names = [
        dict(
            faster='FasterRCNN',
            cascade='CascadeRCNN',
            gfl='GFL',
            retinanet='RetinaNet')[family] for family in (teacher, student)
    ]
    pattern = (f'`distill_losses.{NAME}` {loss["type"]} cannot be computed: '
               f'the teacher {names[0]} of the student {names[1]} {message}')
    with pytest.raises(InvalidValueError, match=pattern) as raised:
        training_step(model)
    assert '\n' not in str(raised.value)


def reason(loss, student, teacher):
    student, teacher = (
        adapter_for(detector, 'student') for detector in (student, teacher))
    return term_of(NAME,
                   MODELS.build(dict(loss, type=f'tcal_det.{loss["type"]}')),
                   student).reason_against_teacher(student, teacher)


@pytest.mark.parametrize('name', ['DINO', 'SparseRCNN'])
def test_queries_are_those_of_one_detector(name):
    detector = query_cases.build(query_cases.tiny_model(name))
    assert reason(BOX, detector, detector) == (
        'cannot teach it boxes: the student predicts boxes from its own '
        'queries, which no other detector has: choose two detectors with '
        'RoIs, or two with the same priors')
    assert reason(LD, detector, detector) is not None
    assert reason(RPN, detector, detector) is not None


@pytest.mark.parametrize('name, message', [
    ('cascade_rpn', 'the `rpn_head` CascadeRPNHead, which is not an RPNHead'),
    ('guided_anchors', 'the `rpn_head` GARPNHead, which is not an RPNHead'),
    ('fcos_rpn', 'the `rpn_head` FCOSHead, which is not an RPNHead'),
    ('trident', 'repeats the batch for the branches of a TridentNet'),
])
def test_other_rpns(name, message):
    detector = roi_cases.build_detector(roi_cases.case_cfg(name))
    assert message in reason(RPN, detector, detector)


def test_stages_in_buckets():
    detector = roi_cases.build_detector(roi_cases.case_cfg('sabl'))
    assert 'SABLHead, which does not regress the corners of boxes: choose' in (
        reason(BOX, detector, detector))


def test_matched_predictions_are_no_shared_samples(tmp_path, training_step):
    files = dict(
        write_teacher(tmp_path, 'retinanet'), transport='matched_predictions')
    cfg = distiller_cfg('retinanet', files)
    cfg.distill_losses = ConfigDict({NAME: BOX})
    with pytest.raises(
            InvalidValueError,
            match=f'`distill_losses.{NAME}` BoxDistillationLoss must be given '
            'logits of the teacher RetinaNet for the samples of the student '
            "RetinaNet, but its transport is 'matched_predictions'"):
        training_step(build(cfg, MODELS))


def test_student_that_assigns_no_classes(tmp_path, training_step):
    files = write_teacher(
        tmp_path,
        'retinanet',
        edit=lambda model: model.bbox_head.update(type='FreeAnchorRetinaHead'))
    cfg = distiller_cfg('retinanet', files)
    cfg.bbox_head.update(type='FreeAnchorRetinaHead', loss_bbox=SMOOTH_L1)
    cfg.distill_losses = ConfigDict({NAME: BOX})
    with pytest.raises(
            InvalidValueError,
            match=f"`distill_losses.{NAME}.samples` must be 'all'"):
        training_step(build(cfg, MODELS))
    cfg.distill_losses[NAME].samples = 'all'
    assert training_step(build(cfg, MODELS))[0][NAME].item() > 0
