"""mmrazor's SingleTeacherDistill on the logits of the RoI heads."""
import sys
import types
from unittest import mock

from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import nn

LOGITS = dict(
    logits=dict(type='ModuleOutputs', source='roi_head.bbox_head.fc_cls'))
# Not used by distillation, and not importable with torch 2.1 and later
# (open-mmlab/mmrazor#615 and #632).
QUANTIZATION = 'mmrazor.structures.quantization'


class UnavailableError(Exception):
    """Raised for a variant that cannot run; the message is the reason."""


class _AnyName(types.ModuleType):
    __all__ = ()

    def __getattr__(self, name: str) -> mock.MagicMock:
        if name.startswith('__'):
            raise AttributeError(name)
        return mock.MagicMock(name=name)


def single_teacher_distill(student: nn.Module,
                           teacher: nn.Module) -> BaseModel:
    """Build mmrazor's distiller of a student and a teacher.

    mmrazor records the output of the last classification layer in each
    detector's own loss. The two detectors sample their RoIs separately, so
    their logits belong to different RoIs: the time of a step is comparable,
    but its result is not.

    Args:
        student (nn.Module): Student in training mode.
        teacher (nn.Module): Teacher without gradient.

    Returns:
        BaseModel: Distiller in training mode.

    Raises:
        UnavailableError: If mmrazor cannot be imported.
    """
    sys.modules.setdefault(QUANTIZATION, _AnyName(QUANTIZATION))
    try:
        from mmrazor.models.algorithms import SingleTeacherDistill
    except Exception as error:
        # Not only ImportError: mmrazor asserts versions, e.g. of mmcv.
        raise UnavailableError(
            f'{type(error).__name__}: {" ".join(str(error).split())}'
        ) from None
    with DefaultScope.overwrite_default_scope('mmrazor'):
        model = SingleTeacherDistill(
            architecture=student,
            teacher=teacher,
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=LOGITS,
                teacher_recorders=LOGITS,
                distill_losses=dict(
                    loss_kd=dict(
                        type='KLDivergence', tau=1, reduction='batchmean')),
                loss_forward_mappings=dict(
                    loss_kd=dict(
                        preds_S=dict(from_student=True, recorder='logits'),
                        preds_T=dict(from_student=False, recorder='logits')))))
    # Not `return model.train()`: mmrazor's train() returns None.
    model.train()
    return model
