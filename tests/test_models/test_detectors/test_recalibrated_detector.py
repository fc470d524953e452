import json

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.models import RetinaNet
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.structures import InstanceData

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.models.detectors import ScoreRecalibrator
from tcal_det.recalibration import (ClassRecalibration, PlattMap,
                                    Recalibration, SizeDependentPlattMap,
                                    relative_areas)
from tcal_det.registry import MODELS

POOLED = PlattMap(scale=0.5, bias=-1.0)
OWN = PlattMap(scale=2.0, bias=0.5)


@pytest.fixture(autouse=True)
def mmdet_scope():
    register_all_modules()


def test_arguments_that_no_signature_names():
    """A detector may take them out of its keyword arguments."""

    class Popping(RetinaNet):

        def __init__(self, **kwargs):
            self.extra = kwargs.pop('extra', None)
            super().__init__(**kwargs)

    model = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').model
    model.backbone.update(depth=18, base_channels=4, init_cfg=None)
    model.neck.in_channels = [4, 8, 16, 32]
    model.update(
        type='tcal_det.RecalibratedDetector', detector_type=Popping, extra=1)
    assert MODELS.build(model).extra == 1
    model.backbon = {}
    with pytest.raises(
            InvalidValueError,
            match="unknown key 'backbon'; did you mean 'backbone'"):
        MODELS.build(model)


@pytest.fixture
def calibration_file(tmp_path):
    """A calibration with a map of class 1's own, and with thresholds."""

    def write(score_thr=(None, None, None)):
        calibration = Recalibration({}, POOLED, (
            ClassRecalibration(7, 'a', score_thr[0]),
            ClassRecalibration(3, 'b', score_thr[1], OWN),
            ClassRecalibration(90, 'c', score_thr[2]),
        ))
        path = tmp_path / 'calibration.json'
        path.write_text(json.dumps(calibration.to_json_dict()))
        return str(path)

    return write


@pytest.fixture
def pair(detector_cfg, calibration_file):
    """A plain detector and the same with calibrated scores."""

    def make(load_from=None, **calibration):
        plain = MODELS.build(detector_cfg())
        torch.manual_seed(0)
        plain.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.3)
        cfg = detector_cfg()
        cfg.update(
            type='tcal_det.RecalibratedDetector', detector_type='FasterRCNN')
        cfg.test_cfg.recalibrator = dict(
            load_from=load_from or calibration_file(**calibration))
        calibrated = MODELS.build(cfg)
        calibrated.load_state_dict(plain.state_dict())
        return plain.eval(), calibrated.eval()

    return make


def predict(model, batch):
    data = model.data_preprocessor(batch(), False)
    with torch.no_grad():
        return [
            sample.pred_instances for sample in model(**data, mode='predict')
        ]


def test_scores_are_mapped_by_class_and_nothing_else_changes(pair, batch):
    plain, calibrated = (predict(model, batch) for model in pair())
    assert sum(map(len, plain)) > 20
    for before, after in zip(plain, calibrated):
        assert torch.equal(before.bboxes, after.bboxes)
        assert torch.equal(before.labels, after.labels)
        scores = before.scores.double().numpy()
        expected = np.where(before.labels == 1, OWN(scores), POOLED(scores))
        assert after.scores.dtype == torch.float32
        assert after.scores.numpy() == pytest.approx(expected, rel=1e-6)
        assert not torch.equal(before.scores, after.scores)


def test_instances_are_not_changed(calibration_file):
    instances = InstanceData(
        bboxes=torch.zeros(2, 4),
        scores=torch.tensor([0.9, 0.2]),
        labels=torch.tensor([0, 1]))
    result = ScoreRecalibrator(calibration_file((0.5, 0.5, None)))(instances,
                                                                   (100, 100))
    assert len(result) == 1
    assert instances.scores.tolist() == pytest.approx([0.9, 0.2])


def test_detections_below_the_threshold_are_left_out(pair, batch):
    plain, calibrated = (
        predict(model, batch) for model in pair(score_thr=(None, 0.3, 0.0)))
    for before, after in zip(plain, calibrated):
        # Thresholds are of uncalibrated scores.
        is_kept = ~((before.labels == 1) & (before.scores < 0.3))
        assert 0 < is_kept.sum() < len(is_kept)
        assert torch.equal(after.bboxes, before.bboxes[is_kept])


def test_training_and_state_are_the_plain_detectors(pair, training_step):
    plain, calibrated = pair()
    assert isinstance(calibrated, type(plain))
    assert list(plain.state_dict()) == list(calibrated.state_dict())
    for key, loss in training_step(plain)[0].items():
        other = training_step(calibrated)[0][key]
        pairs = zip(loss, other) if isinstance(loss, list) else [(loss, other)]
        assert all(torch.equal(*values) for values in pairs)


@pytest.mark.parametrize('test_cfg', [dict(), dict(recalibrator=None)])
def test_without_the_option_scores_are_the_detectors(test_cfg, detector_cfg,
                                                     pair, batch):
    plain, _ = pair()
    cfg = detector_cfg()
    cfg.update(
        type='tcal_det.RecalibratedDetector', detector_type='FasterRCNN')
    cfg.test_cfg.update(test_cfg)
    same = MODELS.build(cfg).eval()
    same.load_state_dict(plain.state_dict())
    for one, other in zip(predict(plain, batch), predict(same, batch)):
        assert torch.equal(one.scores, other.scores)


def test_inference_detector_returns_calibrated_scores(pair, detector_cfg,
                                                      calibration_file,
                                                      tmp_path):
    """From a config file and the plain detector's checkpoint."""
    plain, _ = pair()
    checkpoint = str(tmp_path / 'plain.pth')
    torch.save(
        dict(state_dict=plain.state_dict(), meta=dict(dataset_meta={})),
        checkpoint)
    pipeline = [
        dict(type='mmdet.LoadImageFromFile'),
        dict(type='mmdet.Resize', scale=(96, 64), keep_ratio=True),
        dict(
            type='mmdet.PackDetInputs',
            meta_keys=('img_id', 'ori_shape', 'img_shape', 'scale_factor'))
    ]
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    results = []
    for calibrator in (None, dict(load_from=calibration_file())):
        cfg = detector_cfg()
        cfg.update(
            type='tcal_det.RecalibratedDetector', detector_type='FasterRCNN')
        cfg.test_cfg.recalibrator = calibrator
        cfg = Config(
            dict(
                model=cfg,
                test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        model = init_detector(cfg, checkpoint, palette='random', device='cpu')
        results.append(inference_detector(model, image).pred_instances)
    before, after = results
    assert len(before) > 5 and torch.equal(before.bboxes, after.bboxes)
    shared = before.labels != 1
    assert after.scores[shared].numpy() == pytest.approx(
        POOLED(before.scores[shared].double().numpy()), rel=1e-6)


def test_single_stage_detector(calibration_file, batch):
    """RetinaNet: heads of sigmoids, and a test_cfg without `rcnn`."""
    cfg = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    model = cfg.model
    model.backbone.update(base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.bbox_head.update(
        num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)
    model.test_cfg.score_thr = 0.0
    plain = MODELS.build(model).eval()
    model.update(
        type='tcal_det.RecalibratedDetector', detector_type='RetinaNet')
    model.test_cfg.recalibrator = dict(load_from=calibration_file())
    calibrated = MODELS.build(model).eval()
    calibrated.load_state_dict(plain.state_dict())
    for before, after in zip(
            predict(plain, batch), predict(calibrated, batch)):
        shared = before.labels != 1
        assert shared.any()
        assert after.scores[shared].numpy() == pytest.approx(
            POOLED(before.scores[shared].double().numpy()), rel=1e-5)


def build(detector_cfg, **model):
    cfg = detector_cfg()
    cfg.update(
        dict(type='tcal_det.RecalibratedDetector', detector_type='FasterRCNN'),
        **model)
    return MODELS.build(cfg)


@pytest.mark.parametrize('calibrator, error, message', [
    ('calibration.json', InvalidTypeError, '`test_cfg.recalibrator`'),
    (dict(load_from='gone.json'), MissingFileError, "'gone.json'"),
    (dict(load_from=3), InvalidTypeError, '`load_from`'),
])
def test_calibrator_is_no_calibrator(detector_cfg, calibrator, error, message):
    test_cfg = detector_cfg().test_cfg
    test_cfg.recalibrator = calibrator
    with pytest.raises(error, match=message):
        build(detector_cfg, test_cfg=test_cfg)


def test_detector_type(detector_cfg):
    cfg = detector_cfg()
    cfg.type = 'tcal_det.RecalibratedDetector'
    with pytest.raises(InvalidValueError, match='`detector_type` must name'):
        MODELS.build(cfg)
    with pytest.raises(InvalidValueError, match="got 'FPN'"):
        build(detector_cfg, detector_type='FPN')


def test_map_that_depends_on_the_size(pair, batch, tmp_path):
    by_size = SizeDependentPlattMap([-6., -1.], [.5, 2.], [1., -1.])
    path = tmp_path / 'size.json'
    path.write_text(
        json.dumps(
            Recalibration(
                {}, by_size,
                tuple(
                    ClassRecalibration(label, name)
                    for label, name in enumerate('abc'))).to_json_dict()))
    plain, recalibrated = pair(load_from=str(path))
    sizes = [sample.ori_shape[::-1] for sample in batch()['data_samples']]
    for before, after, size in zip(
            predict(plain, batch), predict(recalibrated, batch), sizes):
        boxes = before.bboxes.double().numpy()
        boxes[:, 2:] -= boxes[:, :2]
        areas = relative_areas(boxes, np.array([size] * len(boxes)))
        assert areas.max() > 2 * areas.min() > 0
        assert after.scores.numpy() == pytest.approx(
            by_size(before.scores.double().numpy(), areas), rel=1e-6)


def test_calibration_of_fewer_classes(pair, batch, tmp_path):
    path = tmp_path / 'one.json'
    path.write_text(
        json.dumps(
            Recalibration({}, POOLED,
                          (ClassRecalibration(1, 'a'), )).to_json_dict()))
    _, calibrated = pair(load_from=str(path))
    with pytest.raises(InvalidValueError, match='labels must be below 1'):
        predict(calibrated, batch)


def test_distiller_has_the_option_too(pair, calibration_file, distiller_cfg,
                                      batch):
    """One mechanism: a distilled student need not change its type."""
    plain, calibrated = pair()
    cfg = distiller_cfg(teacher=dict(config='gone.py', checkpoint='gone.pth'))
    cfg.test_cfg.recalibrator = dict(load_from=calibration_file())
    student = MODELS.build(cfg).eval()
    student.load_state_dict(plain.state_dict())
    for mine, its, uncalibrated in zip(
            predict(student, batch), predict(calibrated, batch),
            predict(plain, batch)):
        assert len(mine) > 0
        assert torch.equal(mine.scores, its.scores)
        assert not torch.equal(mine.scores, uncalibrated.scores)
