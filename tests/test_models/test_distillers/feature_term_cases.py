"""Feature losses of tiny students and teachers."""

from mmengine.config import ConfigDict

from tests.head_families import bbox_heads, distiller_cfg
from tests.module_runs import count_runs

KINDS = ('PKDLoss', 'CWDLoss', 'ScoreWeightedL2Loss', 'MGDLoss', 'FGDLoss',
         'DPKLoss', 'InformationFlowLoss')


def feature_losses(own, other=None, kinds=KINDS, **arguments):
    """Configs of feature losses, by name.

    Args:
        own (list[int]): Channels of the student's levels.
        other (list[int], optional): Those of the teacher's.
        kinds (sequence[str]): Types of the losses.
        **arguments: Of all of them.
    """
    losses = {}
    for kind in kinds:
        cfg = dict(type=f'tcal_det.{kind}', **arguments)
        if kind != 'InformationFlowLoss':
            cfg['student_channels'] = own
            if other is not None:
                cfg['teacher_channels'] = other
        losses[f'loss_{kind}'] = cfg
    return losses


def wide(model):
    """Another width of the neck, and of what follows it."""
    for part in (model.get('rpn_head', {}), *bbox_heads(model)):
        for key in ('in_channels', 'feat_channels'):
            if key in part:
                part[key] = 24
    model.neck.out_channels = 24
    if 'roi_head' in model:
        model.roi_head.bbox_roi_extractor.out_channels = 24


def student_cfg(family, teacher, losses, **options):
    cfg = distiller_cfg(family, teacher, calibrator=None, **options)
    cfg.distill_losses = ConfigDict(losses)
    return cfg


def count_runs_of_both(model, *parts):
    """How often modules of student and teacher run, by name."""
    return count_runs({
        f'{role} {part}': getattr(detector, part)
        for role, detector in (('student', model), ('teacher',
                                                    model.teacher.detector))
        for part in parts
    })


def five_levels(model):
    """P3 to P7 as in mmdet's own configs."""
    model.neck.num_outs = 5
    strides = [8, 16, 32, 64, 128]
    head = model.bbox_head
    head.anchor_generator.strides = strides


def single_level(level):

    def edit(model):
        stride = 4 * 2**level
        model.neck.update(start_level=level, end_level=level, num_outs=1)
        model.rpn_head.anchor_generator.strides = [stride]
        model.roi_head.bbox_roi_extractor.featmap_strides = [stride]

    return edit
