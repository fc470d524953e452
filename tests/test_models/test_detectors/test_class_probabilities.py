"""The option ``test_cfg.class_probabilities`` of any detector."""
import copy
import pickle
import threading

import pytest
import torch
from mmengine.config import Config, ConfigDict

from tcal_det.engine.training import use_test_time_augmentation
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.detectors import ScoreRecalibrator
from tcal_det.models.detectors.kept_rows import kept_rows
from tcal_det.models.detectors.replaced_methods import methods_replaced
from tcal_det.registry import MODELS
from tests import roi_cases
from tests.class_probability_cases import (NAMES, NUM_CLASSES, PLAIN_SCORES,
                                           PREPARED, SOFTMAX, batch_of, build,
                                           config_of, of_labels, pair, predict,
                                           with_option)


def assert_equal_but_for_rows(plain, mine):
    assert len(plain) == len(mine)
    for before, after in zip(plain, mine):
        assert set(after.keys()) - set(before.keys()) == {'class_probs'}
        for key, value in before.items():
            assert torch.equal(value, after[key]), key
        assert len(after.class_probs) == len(before)


def left_behind(model):
    return [
        name for module in model.modules() for name in vars(module)
        if name in ('_predict_by_feat_single', '_bbox_post_process',
                    '_bbox_mask_post_process', 'predict_by_feat',
                    'predict_bbox', 'score_voting', 'merge_trident_bboxes')
    ]


@pytest.mark.parametrize('name', NAMES)
def test_nothing_else_changes(name):
    plain, mine = pair(name)
    for rescale in (False, True) if name in PREPARED else (True, ):
        before, after = (
            predict(model, *batch_of(name), rescale=rescale)
            for model in (plain, mine))
        assert_equal_but_for_rows(before, after)
        assert sum(map(len, after)) > 4
    for found in after:
        assert found.class_probs.shape[1] == NUM_CLASSES + (name in SOFTMAX)
        if name in SOFTMAX:
            assert torch.allclose(
                found.class_probs.sum(dim=1), torch.ones(len(found)))
        if name in PLAIN_SCORES:
            assert torch.equal(of_labels(found), found.scores)
    # The plain detector's own way is as it was.
    assert not left_behind(mine)


@pytest.mark.parametrize('name', ['RetinaHead', 'faster'])
def test_images_without_detections(name):
    _, mine = pair(name)
    mine = copy.deepcopy(mine)
    head = mine.roi_head if name == 'faster' else mine.bbox_head
    head.test_cfg.score_thr = 1.0
    for found in predict(mine, *batch_of(name)):
        columns = NUM_CLASSES + (name in SOFTMAX)
        assert found.class_probs.shape == (0, columns)


@pytest.mark.parametrize('name, empty', [('faster', (0, )), ('faster', (0, 1)),
                                         ('cascade_mask', (0, 1)),
                                         ('trident', (0, 1))])
def test_images_without_proposals(name, empty):
    """Of one image of a batch, and of all."""
    before, after = map(copy.deepcopy, pair(name))
    for model in (before, after):
        own = model.rpn_head.predict

        def without(*args, own=own, **kwargs):
            results = own(*args, **kwargs)
            for index in empty:
                results[index] = results[index][:0]
            return results

        model.rpn_head.predict = without
    images, samples = batch_of(name)
    for sample in samples:
        if 'proposals' in sample:
            del sample.proposals
    plain, mine = (
        predict(model, images, samples) for model in (before, after))
    assert_equal_but_for_rows(plain, mine)
    assert mine[0].class_probs.shape == (0, NUM_CLASSES + 1)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_without_nms(dtype):
    """What a dense head gives to the older test-time augmentation."""
    _, mine = pair('FCOSHead')
    images, samples = batch_of('FCOSHead')
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        maps = mine.bbox_head(mine.extract_feat(images))
    maps = [[level.to(dtype) for level in part] for part in maps]
    with methods_replaced(kept_rows(mine).replacements):
        results = mine.bbox_head.predict_by_feat(
            *maps, batch_img_metas=metas, with_nms=False)
    for found in results:
        assert len(found) > 20
        assert found.class_probs.shape == (len(found), NUM_CLASSES)
        assert found.class_probs.dtype == found.scores.dtype == dtype
        # Scores have the centerness in them.
        assert (of_labels(found) >= found.scores).all()
        assert (of_labels(found) > found.scores).any()


def test_soft_nms_lowers_scores_alone():
    plain, mine = map(copy.deepcopy, pair('faster'))
    for model in (plain, mine):
        model.roi_head.test_cfg.nms = ConfigDict(
            type='soft_nms', method='gaussian', min_score=0.001)
    before, after = (
        predict(model, *batch_of('faster')) for model in (plain, mine))
    assert_equal_but_for_rows(before, after)
    lower = [of_labels(found) > found.scores for found in after]
    assert torch.cat(lower).any()
    assert all(
        (of_labels(found) >= found.scores - 1e-6).all() for found in after)


@pytest.mark.parametrize('name', ['DETR', 'DeformableDETR'])
def test_half_precision(name):
    """Of heads whose NMS, which a CPU has in float32 only, is not needed."""
    results = []
    for model in pair(name):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            results.append(predict(model, *batch_of(name)))
    assert_equal_but_for_rows(*results)
    for found in results[1]:
        assert torch.equal(of_labels(found), found.scores)


def test_methods_come_back_after_an_error(monkeypatch):
    _, mine = pair('faster')

    def fail(*args, **kwargs):
        raise RuntimeError('no boxes today')

    with monkeypatch.context() as patch:
        patch.setattr('mmdet.models.layers.bbox_nms.batched_nms', fail)
        with pytest.raises(RuntimeError, match='no boxes today'):
            predict(mine, *batch_of('faster'))
    assert not left_behind(mine)
    assert all('class_probs' in one
               for one in predict(mine, *batch_of('faster')))


def test_copies_and_pickles():
    _, mine = pair('faster')
    expected = predict(mine, *batch_of('faster'))
    for copied in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        for one, other in zip(expected, predict(copied, *batch_of('faster'))):
            assert torch.equal(one.class_probs, other.class_probs)


def test_threads_share_a_detector():
    """And one of the same class without the option is not touched."""
    plain, mine = pair('faster')
    expected = predict(mine, *batch_of('faster'))
    results = {}

    def run(index, model):
        results[index] = [
            predict(model, *batch_of('faster')) for _ in range(5)
        ]

    threads = [
        threading.Thread(target=run, args=(index, model))
        for index, model in enumerate((mine, mine, plain))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        for result in results[index]:
            for found, one in zip(result, expected):
                assert torch.equal(found.scores, one.scores)
                assert ('class_probs' in found) == (index < 2)
                if index < 2:
                    assert torch.equal(found.class_probs, one.class_probs)


def test_recalibrated_scores_leave_the_rows():

    class Halved(ScoreRecalibrator):
        """Maps scores, and leaves out detections."""

        def __init__(self):
            pass

        def __call__(self, instances, image_size):
            result = instances.clone()
            result.scores = result.scores / 2
            return result[torch.arange(len(result)) % 3 > 0]

    _, mine = pair('faster')
    recalibrated = build(
        'faster',
        with_option(
            config_of('faster'),
            class_probabilities=True,
            recalibrator=dict(type=Halved)))
    recalibrated.load_state_dict(mine.state_dict())
    before, after = (
        predict(model, *batch_of('faster')) for model in (mine, recalibrated))
    for one, other in zip(before, after):
        kept = torch.arange(len(one)) % 3 > 0
        assert len(other) > 10
        assert torch.equal(one.class_probs[kept], other.class_probs)
        assert torch.equal(of_labels(other) / 2, other.scores)


def test_distiller_has_the_option_too(distiller_cfg, batch):
    cfg = distiller_cfg(teacher=dict(config='gone.py', checkpoint='gone.pth'))
    results = []
    for option in (False, True):
        torch.manual_seed(0)
        cfg.test_cfg.class_probabilities = option
        model = MODELS.build(copy.deepcopy(cfg)).eval()
        model.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.3)
        data = model.data_preprocessor(batch(), False)
        with torch.no_grad():
            results.append([
                result.pred_instances
                for result in model(**data, mode='predict')
            ])
    assert sum(map(len, results[1])) > 10
    assert_equal_but_for_rows(*results)


@pytest.mark.parametrize('option', ['yes', 1, None, dict()])
def test_option_is_no_boolean(option):
    cfg = with_option(config_of('faster'), class_probabilities=option)
    with pytest.raises(InvalidTypeError, match='must be True or False, but'):
        MODELS.build(cfg)


def test_detector_without_boxes():
    cfg = roi_cases.case_cfg('panoptic')
    MODELS.build(with_option(cfg, class_probabilities=False))
    with pytest.raises(
            InvalidTypeError, match='PanopticFPN returns segments instead'):
        MODELS.build(with_option(cfg))


def test_test_time_augmentation():
    """It makes new detections, of which mmdet keeps no other fields."""
    cfg = Config(
        dict(
            model=with_option(config_of('faster')),
            tta_model=dict(type='mmdet.DetTTAModel'),
            tta_pipeline=[]))
    with pytest.raises(
            InvalidValueError, match='`--tta` merges the boxes of several'):
        use_test_time_augmentation(cfg)
