"""A detector on corrupted and attacked images of a data set."""
import copy
import json
import os.path as osp

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.structures import InstanceData
from torch.utils.data import ConcatDataset, Subset

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.evaluation.bootstrap import resample_figures
from tcal_det.evaluation.functional import DetectionCalibrationReport
from tcal_det.robustness.cell_file import CellFile
from tcal_det.robustness.cells import FIGURES
from tcal_det.robustness.images import build_images, class_names, image_infos
from tcal_det.robustness.loading import load_detector, load_detector_config
from tcal_det.robustness.measurement import ShiftedDetector
from tcal_det.robustness.run import measure_all, settings_of
from tcal_det.robustness.shifts import CLEAN, Shift, plan_shifts
from tcal_det.teachers.detections import collect_detections
from tcal_det.teachers.sources import build_calibration_dataloader

NOISE = Shift('corruption', 'gaussian_noise', 5.0)


@pytest.fixture
def imagecorruptions():
    return pytest.importorskip('imagecorruptions')


@pytest.fixture
def detector(digits_cfg, digits_checkpoint):
    return load_detector(digits_cfg, digits_checkpoint)


@pytest.fixture
def shifted(digits_cfg, detector):

    def make(num_resamples=0, seed=0, **options):
        loader, corruption = build_images(digits_cfg, seed=seed, **options)
        return ShiftedDetector(detector, loader, corruption,
                               class_names(loader.dataset), num_resamples,
                               seed)

    return make


def same_detections(first, second):
    return all(
        np.array_equal(values, getattr(second.detections, name))
        for name, values in vars(first.detections).items())


class TestImages:

    def test_clean_images_are_those_of_testing(self, digits_cfg):
        loader, _ = build_images(digits_cfg)
        expected = build_calibration_dataloader(digits_cfg, 'test')
        for ours, theirs in zip(loader, expected):
            assert all((one == other).all()
                       for one, other in zip(ours['inputs'], theirs['inputs']))

    def test_corruption_comes_before_resizing(self, digits_cfg):
        """What it sees has the size of the file, as COCO-C's images have."""
        digits_cfg.test_dataloader.dataset.pipeline[1].scale = (128, 128)
        loader, corruption = build_images(digits_cfg)
        seen = []
        loader.dataset.pipeline.transforms[1] = lambda results: (seen.append(
            results['img'].shape), corruption(results))[1]
        data = next(iter(loader))
        assert set(seen) == {(64, 64, 3)}
        assert data['inputs'][0].shape == (3, 128, 128)

    def test_all_batches_are_corrupted_by_one_step(self, digits_cfg,
                                                   imagecorruptions):
        """Of data sets that are joined, too."""
        dataset = digits_cfg.test_dataloader.dataset
        digits_cfg.test_dataloader.dataset = dict(
            type='ConcatDataset',
            datasets=[copy.deepcopy(dataset),
                      copy.deepcopy(dataset)])
        loader, corruption = build_images(digits_cfg)
        clean = [one for data in loader for one in data['inputs']]
        corruption.choose('brightness', 5)
        bright = [one for data in loader for one in data['inputs']]
        assert len(clean) == 12
        assert all(one.float().mean() < other.float().mean()
                   for one, other in zip(clean, bright))

    def test_max_images(self, digits_cfg):
        loader, _ = build_images(digits_cfg, max_images=4, seed=3)
        assert len(loader.dataset) == 4
        ids = [
            sample.img_id for data in loader for sample in data['data_samples']
        ]
        assert len(ids) == len(set(ids)) == 4 and ids == sorted(ids)
        assert [info['img_id'] for info in image_infos(loader.dataset)] == ids
        assert class_names(loader.dataset)[:2] == ('0', '1')
        chosen = {
            tuple(
                build_images(digits_cfg, max_images=3,
                             seed=seed)[0].dataset.indices)
            for seed in range(3)
        }
        assert len(chosen) > 1
        everything, _ = build_images(digits_cfg, max_images=6)
        assert not isinstance(everything.dataset, (Subset, ConcatDataset))

    @pytest.mark.parametrize('for_losses', [False, True])
    def test_masks_where_training_has_them(self, digits_cfg, for_losses):
        for step in digits_cfg.train_dataloader.dataset.pipeline:
            if step.type == 'LoadAnnotations':
                step.with_mask = True
        loader, _ = build_images(digits_cfg, for_losses=for_losses)
        load, = (
            step for step in loader.dataset.pipeline.transforms
            if hasattr(step, 'with_mask'))
        assert load.with_mask is for_losses

    def test_data_set_without_names(self, digits_cfg):
        loader, _ = build_images(digits_cfg)
        loader.dataset._metainfo = {}
        with pytest.raises(InvalidValueError, match='`metainfo.classes`'):
            class_names(loader.dataset)


class TestMeasurement:

    def test_figures_are_those_of_mmdet(self, digits_cfg, detector, shifted,
                                        scenes, monkeypatch):
        """CocoMetric, of boxes beside the objects in images of twice the size.
        """
        digits_cfg.test_dataloader.dataset.pipeline[1].scale = (128, 128)

        def predict(images, samples, rescale=True):
            for sample in samples:
                objects = sample.gt_instances
                count = len(objects)
                boxes = objects.bboxes + torch.arange(count)[:, None]
                sample.pred_instances = InstanceData(
                    bboxes=boxes / 2,
                    labels=(objects.labels + (sample.img_id % 3 == 0)) % 10,
                    scores=torch.linspace(0.9, 0.3, count))
            return samples

        monkeypatch.setattr(detector, 'predict', predict)
        figures = shifted().measure(CLEAN).figures.values
        metric = CocoMetric(
            ann_file=osp.join(scenes, 'annotations', 'test.json'))
        loader, _ = build_images(digits_cfg)
        metric.dataset_meta = loader.dataset.metainfo
        for data in loader:
            samples = detector.test_step(data)
            metric.process(data, [one.to_dict() for one in samples])
        expected = metric.evaluate(len(loader.dataset))
        assert 0.1 < expected['coco/bbox_mAP'] < 0.9
        # It rounds to three digits.
        assert figures['mAP'] == pytest.approx(
            expected['coco/bbox_mAP'], abs=6e-4)
        assert figures['AP50'] == pytest.approx(
            expected['coco/bbox_mAP_50'], abs=6e-4)

    def test_figures_are_those_of_the_package(self, digits_cfg, detector,
                                              shifted):
        figures = shifted().measure(CLEAN).figures.values
        loader = build_calibration_dataloader(digits_cfg, 'test')
        collected = collect_detections(detector, loader, 10)
        report = DetectionCalibrationReport.from_detections(
            collected.ground_truth, collected.detections)
        assert figures == report.figures(FIGURES)
        assert figures['d_ece'] > 0

    def test_intervals_are_those_of_the_package(self, shifted):
        one = shifted(num_resamples=40, seed=2)
        figures = one.measure(CLEAN).figures
        ground_truth, detections, _ = one.collect(CLEAN)
        expected, = resample_figures(ground_truth, [detections], 40, 2)
        for key in FIGURES:
            np.testing.assert_array_equal(figures.resamples[key],
                                          expected.resamples[key])
        assert shifted().measure(CLEAN).figures.resamples['mAP'].size == 0

    def test_corruption_repeats_in_any_order(self, shifted, imagecorruptions):
        one, other = shifted(), shifted()
        clean, noisy = one.collect(CLEAN), one.collect(NOISE)
        assert same_detections(other.collect(NOISE), noisy)
        # And leaves nothing behind.
        assert same_detections(other.collect(CLEAN), clean)
        assert same_detections(one.collect(CLEAN), clean)
        assert not same_detections(clean, noisy)

    def test_workers_corrupt_as_this_process_does(self, shifted, digits_cfg,
                                                  imagecorruptions):
        expected = shifted().collect(NOISE)
        digits_cfg.test_dataloader.num_workers = 1
        digits_cfg.test_dataloader.persistent_workers = True
        one = shifted()
        clean = one.collect(CLEAN)
        assert same_detections(one.collect(NOISE), expected)
        assert same_detections(one.collect(CLEAN), clean)

    def test_attack_of_another_kind_of_images(self, shifted):
        one = shifted()
        clean = one.collect(CLEAN)
        attacked = one.collect(Shift('attack', 'fgsm', 8.0))
        assert not same_detections(clean, attacked)
        assert same_detections(
            one.collect(Shift('attack', 'fgsm', 0.0)), clean)

    def test_too_few_resamples(self, shifted):
        with pytest.raises(InvalidValueError, match='`num_resamples` must be'):
            shifted(num_resamples=39)

    def test_number_of_classes(self, detector, digits_cfg):
        loader, corruption = build_images(digits_cfg)
        with pytest.raises(
                InvalidValueError,
                match=r'names 2 and `roi_head.bbox_head` has 10'):
            ShiftedDetector(detector, loader, corruption, ('a', 'b'))


class TestRun:
    SHIFTS = plan_shifts([], [], ['fgsm'], [0, 2, 8])

    def test_goes_on_after_what_is_there(self, shifted, tmp_path, monkeypatch):
        """Interrupted in the third cell, and asked again."""
        path = str(tmp_path / 'cells.json')
        one, measured, lines = shifted(), [], []
        measure = one.measure

        def measure_two(shift):
            if len(measured) == 2:
                raise KeyboardInterrupt
            measured.append(shift)
            return measure(shift)

        monkeypatch.setattr(one, 'measure', measure_two)
        with pytest.raises(KeyboardInterrupt):
            measure_all(one, self.SHIFTS, CellFile(path, {}), lines.append)
        assert measured == self.SHIFTS[:2]
        assert lines[0] == 'clean (cell 1 of 4)'
        measured.clear()
        lines.clear()
        monkeypatch.setattr(
            one, 'measure',
            lambda shift: measured.append(shift) or measure(shift))
        cells = measure_all(one, self.SHIFTS, CellFile(path, {}), lines.append)
        assert measured == self.SHIFTS[2:]
        assert lines[0].endswith('cells.json: clean, fgsm 0')
        assert lines[2].startswith('FGSM 8/255 (cell 2 of 2, about 1 min left')
        assert [cell.shift for cell in cells] == self.SHIFTS
        # What was read is what would have been measured.
        fresh = shifted().measure(self.SHIFTS[1]).figures.values
        assert cells[1].figures.values == fresh

    def test_time_of_what_was_never_measured_is_not_guessed(
            self, shifted, tmp_path):
        lines = []
        shifts = [*self.SHIFTS, Shift('attack', 'pgd', 0.0)]
        measure_all(shifted(), shifts,
                    CellFile(str(tmp_path / 'cells.json'), {}), lines.append)
        assert lines[1] == 'FGSM 0/255 (cell 2 of 5)'
        assert lines[2].endswith(', about 1 min left before PGD)')

    def test_settings(self, digits_cfg, detector):

        def settings(**changes):
            options = dict(
                dict(split='test', max_images=None, num_resamples=0, seed=0),
                **changes)
            return settings_of(digits_cfg, detector, **options)

        first = settings()
        json.dumps(first)
        digits_cfg.test_dataloader.num_workers = 3
        assert settings() == first
        assert settings(seed=1)['seed'] == 1
        digits_cfg.test_dataloader.batch_size = 1
        assert settings()['dataloader'] != first['dataloader']
        digits_cfg.model.test_cfg.rcnn.score_thr = 0.5
        assert settings()['model'] != first['model']
        detector.roi_head.bbox_head.fc_cls.bias.data[0] += 1
        assert settings()['weights'] != first['weights']
        # Images of the train split come as those of the val split.
        digits_cfg.val_dataloader.dataset.pipeline.pop()
        assert settings()['other_datasets'] != first['other_datasets']
        detector.bfloat16()
        assert len(settings()['weights']) == 64


class TestLoading:

    def test_distill_config_needs_no_teacher(self, digits_cfg, tmp_path,
                                             digits_checkpoint):
        student = copy.deepcopy(digits_cfg)
        student.model.update(
            type='tcal_det.CalibratedTeacherDistiller',
            student_type='FasterRCNN',
            teacher=dict(config='missing.py', checkpoint='missing.pth'),
            distill_losses=dict(loss_kd_cls=dict(type='LogitKLDivLoss')))
        path = str(tmp_path / 'student.py')
        student.dump(path)
        cfg, checkpoint = load_detector_config(path, digits_checkpoint)
        assert not load_detector(cfg, checkpoint).is_distilling

    def test_options(self, digits_cfg, tmp_path):
        path = str(tmp_path / 'detector.py')
        digits_cfg.dump(path)
        cfg, _ = load_detector_config(path, 'x.pth',
                                      {'model.test_cfg.rcnn.score_thr': 0.3})
        assert cfg.model.test_cfg.rcnn.score_thr == 0.3

    def test_mistakes(self, tmp_path, digits_cfg, digits_checkpoint):
        with pytest.raises(MissingFileError, match="config 'none.py'"):
            load_detector_config('none.py', 'x.pth')
        path = tmp_path / 'empty.py'
        path.write_text('a = 1\n')
        with pytest.raises(InvalidValueError, match='must have the key'):
            load_detector_config(str(path), 'x.pth')
        path.write_text('model = 1\n')
        with pytest.raises(InvalidTypeError, match='must be a dict'):
            load_detector_config(str(path), 'x.pth')
        with pytest.raises(MissingFileError, match='detector checkpoint'):
            load_detector(digits_cfg, 'none.pth')
        digits_cfg.model.roi_head.bbox_head.num_classes = 3
        with pytest.raises(InvalidValueError, match='does not fit its config'):
            load_detector(digits_cfg, digits_checkpoint)
