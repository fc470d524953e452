"""Students that are distilled by their boxes, of each kind."""
import copy

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.registry import MODELS
from tests.head_families import build, distiller_cfg, write_teacher

NAME = 'loss_boxes'
# By case: a family of heads, and the loss.
CASES = dict(
    ld=('gfl', dict(type='LocalizationDistillationLoss')),
    boxes_of_rois=('faster', dict(type='BoxDistillationLoss')),
    boxes_of_a_cascade=('cascade',
                        dict(type='BoxDistillationLoss', distance='l1')),
    boxes_of_anchors=('retinanet',
                      dict(type='BoxDistillationLoss', samples='all')),
    boxes_of_distributions=('gfl', dict(type='BoxDistillationLoss')),
    rpn=('faster', dict(type='RPNDistillationLoss')),
)


def student_cfg(case, teacher, with_tcal=False, **options):
    """A student of a case.

    Args:
        case (str): Key of ``CASES``.
        teacher (dict): What ``write_teacher`` returned for its family.
        with_tcal (bool): Whether logits are distilled too.
        **options: Of the loss.
    """
    family, loss = CASES[case]
    cfg = distiller_cfg(family, teacher)
    if not with_tcal:
        cfg.distill_losses.pop('loss_kd_cls')
    cfg.distill_losses[NAME] = dict(loss, **options)
    return cfg


def make_student(case, folder, **options):
    """It, built, with a teacher of its own."""
    teacher = write_teacher(folder, CASES[case][0], case)
    return build(student_cfg(case, teacher, **options), MODELS)


def its_own_teacher(case, folder, **options):
    """A student in eval, as its BatchNorms say, and itself as its teacher."""
    teacher = write_teacher(folder, CASES[case][0], case)
    student = build(student_cfg(case, teacher, **options), MODELS)
    student.load_state_dict(torch.load(teacher['checkpoint'])['state_dict'])
    return student


def step(model, raw, freeze_norms=False, seed=0):
    """Losses of a training step."""
    model.train()
    if freeze_norms:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    data = model.data_preprocessor(copy.deepcopy(raw), True)
    torch.manual_seed(seed)
    return model(**data, mode='loss')


def gradients(model, loss):
    """By the parameter's name; None where it has no part."""
    names, parameters = zip(*model.named_parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return dict(zip(names, found))
