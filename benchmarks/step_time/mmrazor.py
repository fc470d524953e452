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
    """A variant that cannot run here; the message says why."""


class _AnyName(types.ModuleType):
    __all__ = ()

    def __getattr__(self, name: str) -> mock.MagicMock:
        if name.startswith('__'):
            raise AttributeError(name)
        return mock.MagicMock(name=name)


def single_teacher_distill(student: nn.Module,
                           teacher: nn.Module) -> BaseModel:
    """Let mmrazor distil.

    It records what the last classification layer gives in either detector's
    own loss. The two samplers draw apart, so that the logits belong to
    different RoIs: the time of a step is comparable, its result is not.

    Args:
        student (nn.Module): In training.
        teacher (nn.Module): Without gradient.

    Returns:
        BaseModel: In training.

    Raises:
        UnavailableError: If mmrazor cannot be imported.
    """
    sys.modules.setdefault(QUANTIZATION, _AnyName(QUANTIZATION))
    try:
        from mmrazor.models.algorithms import SingleTeacherDistill
    except Exception as error:
        # It asserts versions as well, and refuses newer ones of mmcv.
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
    # Its train() returns nothing.
    model.train()
    return model
