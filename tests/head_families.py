"""Tiny detectors of each family of heads, and how each is distilled."""
import copy
import os

import torch
from mmengine.config import Config, ConfigDict

from tests.config_files import read_config

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PLATT = dict(type='PlattScaling', scale=2.0, bias=0.5)
# By family: a config of models, the teacher's calibrator, and the loss.
FAMILIES = dict(
    retinanet=('retinanet_r18-half_fpn64', PLATT,
               dict(type='LogitBinaryKLDivLoss')),
    gfl=('gfl_r18-half_fpn64', None, dict(type='QualityFocalKDLoss')),
    rtmdet=('rtmdet_s-half', PLATT, dict(type='QualityFocalKDLoss')),
    cascade=('cascade-rcnn_r18-half_fpn64',
             dict(type='TemperatureScaling',
                  temperature=2.0), dict(type='LogitKLDivLoss')),
    faster=('faster-rcnn_r18-half_fpn64',
            dict(type='TemperatureScaling',
                 temperature=2.0), dict(type='LogitKLDivLoss')),
)


def bbox_heads(model):
    """Configs of a model's bbox heads."""
    heads = model.roi_head.bbox_head if 'roi_head' in model \
        else model.bbox_head
    return heads if isinstance(heads, list) else [heads]


def detector_cfg(family, num_classes=3):
    """A detector that a CPU runs in milliseconds, the same in each step.

    The samplers of an RoI head take every candidate; detections are found
    whatever their scores.
    """
    model = read_config(
        os.path.join(REPOSITORY, 'configs', '_base_', 'models',
                     f'{FAMILIES[family][0]}.py')).model
    if model.backbone.type == 'ResNet':
        model.backbone.base_channels = 8
        model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    else:
        model.backbone.update(widen_factor=0.125, deepen_factor=0.167)
        model.neck.update(in_channels=[32, 64, 128], out_channels=16)
    for head in bbox_heads(model):
        head.update(num_classes=num_classes, in_channels=16)
        if 'feat_channels' in head:
            head.update(feat_channels=16, stacked_convs=1)
        else:
            head.fc_out_channels = 32
    if 'roi_head' in model:
        model.rpn_head.update(in_channels=16, feat_channels=16)
        model.roi_head.bbox_roi_extractor.out_channels = 16
        stages = model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 10**6
        model.train_cfg.rpn.sampler.num = 10**6
        for cfg in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
            cfg.update(nms_pre=100, max_per_img=50)
    model.test_cfg.get('rcnn', model.test_cfg).update(
        score_thr=0.0, max_per_img=20)
    return model


def replaced(part, **values):
    """An edit of a model's config: a part with another content.

    Args:
        part (str): Keys to the part, with dots between them.
        **values: Its whole new content.
    """

    def edit(model):
        *keys, last = part.split('.')
        for key in keys:
            model = model[key]
        model[last] = ConfigDict(values)

    return edit


def build(cfg, registry, seed=0):
    """A detector whose classification says something."""
    torch.manual_seed(seed)
    detector = registry.build(copy.deepcopy(cfg))
    for name, weight in detector.named_parameters():
        # Last layers of the classification, by mmdet's names.
        if name.endswith(('_cls.weight', 'rtm_cls.0.weight')) \
                and 'rpn' not in name:
            weight.data.normal_(0, 0.2)
    return detector


def write_teacher(folder, family, name='teacher', edit=None, **model):
    """Config and checkpoint of a teacher; its ``teacher=dict(...)``.

    Args:
        folder (Path): Where they go.
        family (str): Key of ``FAMILIES``.
        name (str): Stem of the files.
        edit (callable, optional): Changes the model's config in place.
        **model: Arguments of :func:`detector_cfg`.
    """
    from mmdet.registry import MODELS
    cfg = Config(dict(model=detector_cfg(family, **model)))
    if edit is not None:
        edit(cfg.model)
    config, checkpoint = (
        str(folder / f'{name}.{end}') for end in ('py', 'pth'))
    cfg.dump(config)
    torch.save(
        dict(state_dict=build(cfg.model, MODELS, seed=1).state_dict()),
        checkpoint)
    return dict(config=config, checkpoint=checkpoint)


def distiller_cfg(family, teacher, calibrator='own', loss=None, **model):
    """A student by the three keys.

    Args:
        family (str): Key of ``FAMILIES``.
        teacher (dict): Its config and checkpoint.
        calibrator (dict, optional): By default the family's.
        loss (dict, optional): By default the family's.
        **model: Arguments of :func:`detector_cfg`.
    """
    cfg = detector_cfg(family, **model)
    _, own_calibrator, own_loss = FAMILIES[family]
    cfg.update(
        type='tcal_det.CalibratedTeacherDistiller',
        student_type=cfg.type,
        teacher=dict(
            teacher,
            calibrator=own_calibrator if calibrator == 'own' else calibrator),
        distill_losses=dict(loss_kd_cls=loss or own_loss))
    return ConfigDict(cfg)
