import copy

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config

from tcal_det.dataset_files import innermost_datasets
from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.models.head_adapters import adapter_for
from tcal_det.teachers.logits import collect_teacher_samples
from tcal_det.teachers.sources import (build_calibration_dataloader,
                                       build_teacher, load_teacher_config,
                                       shares_annotations)


@pytest.fixture
def teacher(calibration_files):
    """The config, the detector and the images."""
    cfg, checkpoint = load_teacher_config(*calibration_files())
    return (cfg, build_teacher(cfg,
                               checkpoint), build_calibration_dataloader(cfg))


class TestDataloader:

    def test_boxes_are_scaled_with_their_image(self, teacher):
        data = next(iter(teacher[2]))
        sample = data['data_samples'][0]
        assert sample.img_shape == (128, 192)
        boxes = sample.gt_instances.bboxes
        boxes = getattr(boxes, 'tensor', boxes)
        assert boxes[0].tolist() == [8.0, 16.0, 48.0, 96.0]

    def test_order_is_that_of_the_file_and_empty_images_stay(self, teacher):
        names = [
            sample.img_id for data in teacher[2]
            for sample in data['data_samples']
        ]
        assert names == list(range(6))

    def test_train_split_is_seen_once_without_augmentation(self, teacher):
        samples = [
            sample
            for data in build_calibration_dataloader(teacher[0], 'train')
            for sample in data['data_samples']
        ]
        assert [sample.img_id for sample in samples] == list(range(6))
        assert not any(sample.get('flip', False) for sample in samples)
        assert samples[0].img_shape == (128, 192)

    def test_the_config_is_not_changed(self, teacher):
        cfg = teacher[0]
        before = copy.deepcopy(cfg.to_dict())
        build_calibration_dataloader(cfg, 'train')
        assert cfg.to_dict() == before

    def test_missing_split(self, teacher):
        with pytest.raises(InvalidValueError, match='`test_dataloader`.*none'):
            build_calibration_dataloader(teacher[0], 'test')
        with pytest.raises(InvalidValueError, match="`split`.*'val'.*'all'"):
            build_calibration_dataloader(teacher[0], 'all')

    def test_missing_annotations(self, teacher):
        cfg = teacher[0]
        cfg.val_dataloader.dataset.ann_file = 'nowhere.json'
        with pytest.raises(MissingFileError, match='nowhere.json'):
            build_calibration_dataloader(cfg)

    def test_shares_annotations(self, teacher):
        cfg = teacher[0]
        assert shares_annotations(cfg, 'train')
        assert not shares_annotations(cfg, 'val')
        assert not shares_annotations(cfg, 'test')
        cfg.val_dataloader.dataset.ann_file = './train.json'
        assert shares_annotations(cfg, 'val')

    def test_shares_annotations_with_another_config(self, teacher):
        cfg, other = teacher[0], copy.deepcopy(teacher[0])
        dataset, = innermost_datasets(other.train_dataloader.dataset)
        dataset.ann_file = './' + cfg.val_dataloader.dataset.ann_file
        assert shares_annotations(cfg, 'val', trained_by=other)
        assert not shares_annotations(cfg, 'train', trained_by=other)
        dataset.ann_file = ['a.json', 'b.json']
        assert not shares_annotations(cfg, 'val', trained_by=other)

    def test_transforms_named_by_their_class(self, teacher):
        cfg = teacher[0]
        for transform in cfg.val_dataloader.dataset.pipeline:
            if transform['type'] == 'LoadAnnotations':
                transform['type'] = LoadAnnotations
        batch = next(iter(build_calibration_dataloader(cfg)))
        assert all('gt_instances' in one for one in batch['data_samples'])


class TestTeacherConfig:

    def test_zoo_name(self):
        cfg, checkpoint = load_teacher_config(
            'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'auto',
            {'model.backbone.depth': 18})
        assert checkpoint.startswith('https://')
        assert cfg.model.backbone.depth == 18

    def test_unknown_zoo_name(self):
        with pytest.raises(MissingFileError, match='does not exist'):
            load_teacher_config('mmdet::nowhere/nothing.py', 'auto')

    def test_auto_needs_a_zoo_config(self, calibration_files):
        with pytest.raises(InvalidValueError, match="'auto'` needs"):
            load_teacher_config(calibration_files()[0], 'auto')

    def test_no_model(self, tmp_path):
        path = tmp_path / 'config.py'
        path.write_text('optimizer = 1\n')
        with pytest.raises(InvalidValueError, match='key `model`.*optimizer'):
            load_teacher_config(str(path), 'x.pth')


class TestCollect:

    def test_train_protocol_is_what_the_detectors_own_loss_sees(self, teacher):
        _, detector, dataloader = teacher
        # Room for all RoIs, so that nothing is left to chance.
        detector.roi_head.bbox_sampler.num = 10000
        # And the proposals of testing would be others.
        detector.test_cfg.rpn.max_per_img = 10
        samples = collect_teacher_samples(detector, dataloader)
        logits, labels = [], []
        for data in dataloader:
            data = detector.data_preprocessor(data, False)
            with adapter_for(
                    detector,
                    'teacher').observe() as observation, torch.no_grad():
                detector.loss(data['inputs'], data['data_samples'])
            logits.append(observation.groups[0].logits)
            labels.append(observation.groups[0].labels)
        assert np.array_equal(samples.logits, torch.cat(logits).numpy())
        assert np.array_equal(samples.labels, torch.cat(labels).numpy())
        # Ground truth is among the proposals: 3 objects in 5 of 6 images.
        assert samples.is_foreground.sum() >= 15
        assert samples.num_images == 6
        assert set(samples.image_ids) == set(range(6))

    def test_train_protocol_samples_as_in_training(self, teacher):
        _, detector, dataloader = teacher
        samples = collect_teacher_samples(detector, dataloader)
        _, count = np.unique(samples.image_ids, return_counts=True)
        assert count.max() <= detector.roi_head.bbox_sampler.num == 32

    def test_test_protocol_takes_all_proposals(self, teacher):
        _, detector, dataloader = teacher
        samples = collect_teacher_samples(detector, dataloader, 'test')
        num_rois, labels = 0, []
        for data in dataloader:
            data = detector.data_preprocessor(data, False)
            with torch.no_grad():
                proposals = detector.rpn_head.predict(
                    detector.extract_feat(data['inputs']),
                    data['data_samples'],
                    rescale=False)
            for proposed, sample in zip(proposals, data['data_samples']):
                num_rois += len(proposed)
                labels.append(
                    _labels_by_overlap(proposed.bboxes, sample.gt_instances))
        assert samples.num_seen == num_rois
        assert np.array_equal(
            np.bincount(samples.labels, minlength=4),
            np.bincount(np.concatenate(labels), minlength=4))

    @pytest.mark.parametrize('protocol', ['train', 'test'])
    def test_grid_rcnn_is_read_as_the_head_it_extends(self, teacher, protocol):
        cfg, detector, dataloader = teacher
        cfg = copy.deepcopy(cfg)
        channels = detector.neck.out_channels
        cfg.model.roi_head.update(
            type='GridRoIHead',
            grid_roi_extractor=dict(
                cfg.model.roi_head.bbox_roi_extractor,
                roi_layer=dict(
                    type='RoIAlign', output_size=14, sampling_ratio=0)),
            grid_head=dict(
                type='GridHead',
                num_convs=1,
                in_channels=channels,
                point_feat_channels=4,
                norm_cfg=None))
        cfg.model.roi_head.bbox_head.with_reg = False
        grid = MODELS.build(cfg.model)
        grid.load_state_dict(detector.state_dict(), strict=False)
        expected = collect_teacher_samples(detector, dataloader, protocol)
        samples = collect_teacher_samples(grid, dataloader, protocol)
        assert np.array_equal(samples.logits, expected.logits)
        assert np.array_equal(samples.labels, expected.labels)

    def test_seeded_and_bounded(self, teacher):
        _, detector, dataloader = teacher
        results = []
        for seed in (0, 0, 1):
            torch.rand(1)  # What the global stream is at does not matter.
            results.append(
                collect_teacher_samples(
                    detector, dataloader, max_samples=40, seed=seed))
        first, again, other = results
        assert np.array_equal(first.logits, again.logits)
        assert not np.array_equal(first.logits, other.logits)
        assert len(first.labels) == 40 < first.num_seen

    def test_the_detector_and_the_random_stream_stay(self, teacher):
        _, detector, dataloader = teacher
        detector.train()
        state = copy.deepcopy(detector.state_dict())
        random_state = torch.get_rng_state()
        collect_teacher_samples(detector, dataloader)
        assert torch.equal(torch.get_rng_state(), random_state)
        for name, value in detector.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert all(p.grad is None for p in detector.parameters())
        assert not detector.training

    def test_no_annotated_object(self, calibration_files):
        cfg, checkpoint = load_teacher_config(*calibration_files(
            has_objects=False))
        with pytest.raises(
                InvalidValueError, match='annotated objects.*6 images.*--spl'):
            collect_teacher_samples(
                build_teacher(cfg, checkpoint),
                build_calibration_dataloader(cfg))

    def test_no_train_cfg(self, teacher):
        _, detector, dataloader = teacher
        detector.train_cfg = None
        with pytest.raises(InvalidTypeError, match='`model.train_cfg`'):
            collect_teacher_samples(detector, dataloader)

    def test_no_head_that_classifies(self, teacher):
        cfg = Config.fromfile(
            load_teacher_config('mmdet::rpn/rpn_r50_fpn_1x_coco.py',
                                'x.pth')[0].filename)
        cfg.model.backbone.init_cfg = None
        with pytest.raises(
                InvalidTypeError, match='teacher RPN has the `bbox_head`'):
            collect_teacher_samples(MODELS.build(cfg.model), teacher[2])

    @pytest.mark.parametrize('options, message', [
        (dict(protocol='val'), "`protocol`.*'train' or 'test'.*'val'"),
        (dict(max_samples=0), '`max_samples` must be >= 1'),
    ])
    def test_bad_options(self, teacher, options, message):
        with pytest.raises(InvalidValueError, match=message):
            collect_teacher_samples(*teacher[1:], **options)


def _labels_by_overlap(boxes, objects):
    """IoU of one half or more, the best object's class, else background."""
    if len(objects) == 0:
        return np.full(len(boxes), 3)
    overlap, best = bbox_overlaps(boxes, objects.bboxes).max(dim=1)
    return torch.where(overlap >= 0.5, objects.labels[best],
                       torch.tensor(3)).numpy()
