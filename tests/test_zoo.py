"""Every kind of box detector that mmdet packages, as student and teacher.

A kind is a detector, its heads and their classification losses. Each is in
``data/zoo_kinds.json`` with one of its configs, and takes a step, or is
refused for the reason in ``REFUSED``. ``make test-zoo`` tests all kinds, and
that each packaged config is of one of them; without it, a sample is tested.
"""
import copy
import json
import os.path as osp
from collections import Counter
from glob import glob

import pytest
import torch
import torch.nn as nn
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.logging import MessageHub

from tcal_det.errors import InvalidTypeError
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS
from tests import dense_cases, query_cases, roi_cases
from tests.zoo_configs import PACKAGED, packaged_model

HERE = osp.dirname(osp.abspath(__file__))
with open(osp.join(HERE, 'data', 'zoo_kinds.json'), encoding='utf-8') as file:
    KINDS = json.load(file)

WORDS = 'scores words of a text, not classes'
OWN_TEACHER = 'has a teacher of its own'
CORNERS = 'scores corners, which do not belong to a box before they are'
# By the class of the head that classifies.
REFUSED = dict(
    GroundingDINOHead=WORDS,
    ATSSVLFusionHead=WORDS,
    CenterNetHead='scores heat maps, of which only the peaks are detections',
    CornerHead=CORNERS,
    CentripetalHead=CORNERS,
    GARetinaHead='chooses the positions of its anchors itself',
    LDHead=OWN_TEACHER,
    LADHead=OWN_TEACHER,
    MultiInstanceBBoxHead='set of objects for each RoI')
# The cheap ones, of all families.
SAMPLE = (
    'ATSS ATSSHead FocalLoss',
    'FCOS FCOSHead FocalLoss',
    'GFL GFLHead QualityFocalLoss',
    'RetinaNet RetinaHead FocalLoss',
    'YOLACT YOLACTHead CrossEntropyLoss',
    'YOLOF YOLOFHead FocalLoss',
    'YOLOX YOLOXHead CrossEntropyLoss',
    'DABDETR DABDETRHead FocalLoss',
    'DETR DETRHead CrossEntropyLoss',
    'SparseRCNN EmbeddingRPNHead/SparseRoIHead/DIIHead FocalLoss',
    'CascadeRCNN RPNHead/CascadeRoIHead/Shared2FCBBoxHead CrossEntropyLoss',
    'CascadeRCNN RPNHead/CascadeRoIHead/Shared4Conv1FCBBoxHead '
    'CrossEntropyLoss',
    'FastRCNN StandardRoIHead/Shared2FCBBoxHead CrossEntropyLoss',
    'FasterRCNN RPNHead/StandardRoIHead/Shared2FCBBoxHead CrossEntropyLoss',
    'HybridTaskCascade RPNHead/HybridTaskCascadeRoIHead/Shared2FCBBoxHead '
    'CrossEntropyLoss',
    'MaskRCNN RPNHead/StandardRoIHead/Shared2FCBBoxHead SeesawLoss',
    'TridentFasterRCNN RPNHead/TridentRoIHead/BBoxHead CrossEntropyLoss',
)
assert set(SAMPLE) <= set(KINDS)


def as_list(node):
    return list(node) if isinstance(node, (list, tuple)) else [node]


def classifiers_of(model):
    return as_list((model.get('roi_head') or model).get('bbox_head'))


def kind_of(model):
    """Detector, heads and classification losses of a model's config."""
    classifiers = classifiers_of(model)
    heads = [model.get('rpn_head'), model.get('roi_head'), *classifiers]
    types = dict.fromkeys(head['type'] for head in heads if head)
    losses = dict.fromkeys((head.get('loss_cls') or {}).get('type', 'default')
                           for head in classifiers)
    return ' '.join([model['type'], '/'.join(types), '/'.join(losses)])


def head_of(kind):
    """Class of the head that classifies."""
    return kind.split()[1].split('/')[-1]


C4 = 'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco'
# Several cases change one config: the first leaves its loss as it is.
ROI_EDITS = dict([(C4, roi_cases.c4), *reversed(roi_cases.CASES.values())])
DENSE_CHANGES = dict(dense_cases.HEADS.values())


def kd_loss(activation):
    kind = dict(softmax='LogitKLDivLoss', sigmoid='LogitBinaryKLDivLoss')
    return dict(loss_kd_cls=dict(type=f'tcal_det.{kind[activation]}'))


def roi_losses(path, folder):
    name = osp.splitext(path)[0]
    cfg = roi_cases.small(name, ROI_EDITS.get(name))
    plain, other = (
        roi_cases.build_detector(cfg, seed=seed) for seed in range(2))
    student = roi_cases.distiller_of(
        cfg, roi_cases.save_teacher(folder, 'teacher', cfg, other),
        kd_loss(adapter_for(plain, 'student').activation), plain.state_dict())
    return student, roi_cases.training_losses(student)


def dense_losses(path, folder):
    cfg = dense_cases.small_dense(path, DENSE_CHANGES.get(path, {}))
    plain, other = (dense_cases.build(cfg, seed=seed) for seed in range(2))
    checkpoint = str(folder / 'teacher.pth')
    torch.save(dict(state_dict=other.state_dict()), checkpoint)
    activation = adapter_for(plain, 'student').activation
    student = dense_cases.build(
        dict(
            copy.deepcopy(cfg),
            type='tcal_det.CalibratedTeacherDistiller',
            student_type=cfg.type,
            teacher=dict(config=dict(model=cfg), checkpoint=checkpoint),
            distill_losses=kd_loss(activation)), MODELS)
    images, data_samples = dense_cases.batch(cfg.bbox_head.type)
    return student, student.loss(images, data_samples)


WIDTHS = dict(query_cases.DETECTORS.values())


def query_losses(path, folder):
    cfg = query_cases.small_query(path, WIDTHS[path])
    activation = adapter_for(query_cases.build(cfg), 'student').activation
    student = query_cases.distiller(
        folder, cfg, kd_loss(activation), teacher_seed=1)
    return student, student.loss(*query_cases.batch(cfg.type))


def losses_of(path):
    """What makes a student of a packaged config, and takes its step."""
    if path in WIDTHS:
        return query_losses
    return roi_losses if 'roi_head' in packaged_model(path) else dense_losses


@pytest.mark.parametrize('kind', [
    pytest.param(kind, marks=[] if kind in SAMPLE else pytest.mark.zoo)
    for kind in KINDS if head_of(kind) not in REFUSED
])
def test_kind_takes_a_step(kind, tmp_path):
    # TOOD and BoxInst read them.
    for name in ('epoch', 'iter'):
        MessageHub.get_current_instance().update_info(name, 0)
    path = KINDS[kind]
    student, losses = losses_of(path)(path, tmp_path)
    total, logged = student.parse_losses(losses)
    total.backward()
    assert all(value.isfinite().all() for value in logged.values()), logged
    assert logged['loss_kd_cls'].item() > 0
    gradients = [
        weight.grad for weight in student.parameters()
        if weight.grad is not None
    ]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def without_parts(cfg):
    """A detector or head of its class, for no more than its class counts."""
    module_class = MMDET_MODELS.get(cfg.type)
    module = module_class.__new__(module_class)
    nn.Module.__init__(module)
    return module


@pytest.mark.parametrize('role', ['student', 'teacher'])
@pytest.mark.parametrize('kind',
                         [kind for kind in KINDS if head_of(kind) in REFUSED])
def test_kind_is_refused_with_its_reason(kind, role):
    model = packaged_model(KINDS[kind])
    detector = without_parts(model)
    key = 'roi_head' if 'roi_head' in model else 'bbox_head'
    setattr(detector, key, without_parts(model[key]))
    with pytest.raises(InvalidTypeError) as caught:
        adapter_for(detector, role)
    message = str(caught.value)
    assert message.startswith(f'the {role} {model.type} ')
    assert model[key].type in message
    assert REFUSED[head_of(kind)] in message
    assert '\n' not in message


def packaged_models():
    """Path and model config of all that is packaged and can be read."""
    for path in sorted(glob(osp.join(PACKAGED, '**', '*.py'), recursive=True)):
        path = osp.relpath(path, PACKAGED)
        if path.startswith('_base_'):
            continue
        try:
            model = packaged_model(path)
        except (ImportError, FileNotFoundError):
            # A base of mmpretrain, or one that mmdet does not package.
            continue
        if model is not None:
            yield path, model


@pytest.mark.zoo
def test_every_packaged_box_detector_is_of_a_known_kind():
    """A box detector has a `bbox_head`, its own or below a `roi_head`.

    Not counted are models without: RPNs, SOLO, Mask2Former and MaskFormer,
    and models around a detector: trackers, semi-supervised training.
    """
    counts, wrong = Counter(), []
    for path, model in packaged_models():
        if classifiers_of(model) == [None]:
            continue
        kind = kind_of(model)
        counts[kind] += 1
        if kind not in KINDS:
            wrong.append(f'{path}: {kind}')
    assert not wrong
    by_head = Counter()
    for kind, count in counts.items():
        by_head[head_of(kind)] += count
    total = sum(counts.values())
    served = total - sum(by_head[head] for head in REFUSED)
    of_words = sum(by_head[head] for head in REFUSED if REFUSED[head] is WORDS)
    share = served / (total - of_words)
    print(f'\n{total} configs of {len(counts)} kinds, {served} served: '
          f'{served / total:.1%}; {of_words} score words of a text; of those '
          f'that score classes {share:.1%} served')
    for head in REFUSED:
        print(f'{by_head[head]:4d} refused: {head}, {REFUSED[head]}')
    assert share >= 0.95
