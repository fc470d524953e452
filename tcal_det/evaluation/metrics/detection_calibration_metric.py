"""Metric of the calibration of a detector, in addition to its mAP."""
import inspect
import logging
import warnings
from dataclasses import fields
from typing import Any, Dict, List, Mapping, Optional, Sequence

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from tcal_det.errors import InvalidTypeError
from tcal_det.fileio import write_json_atomically
from tcal_det.registry import METRICS
from tcal_det.tables import markdown_table
from ..functional import (BY_KEY, FIGURES, DetectionCalibrationReport,
                          EvaluationOptions, detections_from_coco,
                          ground_truth_from_coco)
from ..results_file import categories_by_label, check_each_image_once
from .sample_records import (annotations_of_records, detections_of_records,
                             read_needed_annotations, sample_record)

METRIC_KEYS = tuple(figure.key for figure in FIGURES if figure.in_metric)
# Columns of the classwise table.
_COLUMNS = ('d_ece', 'd_ece_over', 'laece', 'laece_0', 'lrp_0', 'olrp',
            'olrp_threshold')


@METRICS.register_module()
class DetectionCalibrationMetric(BaseMetric):
    """D-ECE, LaECE, LaACE, LRP and oLRP, in addition to CocoMetric.

    All figures are fractions in [0, 1]; lower is better, except for the
    coverage. They are NaN where undefined; then the log has one line with the
    reason. Keys are never left out: otherwise mmengine would log the last
    defined value again, and ``save_best`` would fail. Detections are matched
    as in COCOeval, once for each IoU threshold.

    Attributes:
        report (DetectionCalibrationReport, optional): All figures of the last
            evaluation, for hooks. It is set on the first rank only.

    Args:
        ann_file (str, optional): Path to the COCO annotation file of all
            images. Defaults to None, which uses the ``instances`` of the data
            samples, as in CocoMetric; they must be among the ``meta_keys`` of
            PackDetInputs.
        classwise (bool): Whether to log a table with a row for each class.
            Defaults to False.
        outfile_prefix (str, optional): Prefix of the JSON file
            ``{outfile_prefix}.calibration.json`` for the full report with all
            bin tables. Defaults to None, which writes no file.
        backend_args (dict, optional): Arguments of the file backend that reads
            ``ann_file``. Defaults to None.
        collect_device (str): Device on which the results of all ranks are
            collected, 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the keys. Defaults to None, which
            means 'calib'.
        collect_dir (str, optional): Folder in which the results of all ranks
            are collected if ``collect_device='cpu'``. Defaults to None, a
            temporary folder.
        **options: Options of the evaluation, see :class:`EvaluationOptions`,
            e.g. ``score_thr``, ``d_ece_iou_thr`` and ``max_dets``.

    Raises:
        MissingFileError: If ``ann_file`` does not exist.
        InvalidTypeError: If an option or a record of ``ann_file`` has the
            wrong type.
        InvalidValueError: If an option or a record of ``ann_file`` has a wrong
            value.
    """

    default_prefix = 'calib'

    def __init__(self,
                 ann_file: Optional[str] = None,
                 classwise: bool = False,
                 outfile_prefix: Optional[str] = None,
                 backend_args: Optional[dict] = None,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None,
                 collect_dir: Optional[str] = None,
                 **options: Any) -> None:
        super().__init__(
            collect_device=collect_device,
            prefix=prefix,
            collect_dir=collect_dir)
        _check_names(options)
        self.options = options
        self.report: Optional[DetectionCalibrationReport] = None
        self.classwise = classwise
        self.outfile_prefix = outfile_prefix
        self._annotations = None
        if ann_file is not None:
            self._annotations = read_needed_annotations(ann_file, backend_args)
        else:
            # Logged here, because a metric has no access to the pipeline, and
            # missing instances are noticed only after an epoch.
            print_log(
                f'{type(self).__name__} without `ann_file` uses the '
                '`instances` of the data samples: they must be among the '
                "`meta_keys` of the pipeline's PackDetInputs",
                logger='current')
        self._check_options()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the required data of one batch on the CPU.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): Data samples with
                ``pred_instances``, ``img_id`` and ``ori_shape``, and with
                ``instances`` if there is no ``ann_file``.
        """
        self.results.extend(
            sample_record(sample, self._annotations is None)
            for sample in data_samples)

    def compute_metrics(self, results: List[dict]) -> Dict[str, float]:
        """Compute the figures from the detections of all ranks.

        Args:
            results (list[dict]): Records from :meth:`process`.

        Returns:
            dict[str, float]: Figures by ``METRIC_KEYS``, NaN where undefined.
        """
        report = self.report = self._evaluate(results)
        figures = report.figures(METRIC_KEYS)
        reason = report.why_undefined(figures)
        if reason is not None:
            self._warn(reason)
        if self.classwise:
            print_log('\n' + _classwise_table(report), logger='current')
        if self.outfile_prefix is not None:
            write_json_atomically(f'{self.outfile_prefix}.calibration.json',
                                  report.to_dict())
        return figures

    def _evaluate(self, results: List[dict]) -> DetectionCalibrationReport:
        check_each_image_once([record['img_id'] for record in results],
                              'predictions')
        classes = self.dataset_meta['classes']
        annotations = self._annotations
        if annotations is None:
            annotations = annotations_of_records(results, classes)
        category_ids = [
            category['id']
            for category in categories_by_label(annotations, classes)
        ]
        ground_truth = ground_truth_from_coco(
            annotations, category_ids=category_ids)
        detections = detections_of_records(results, category_ids, ground_truth)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', UserWarning)
            report = DetectionCalibrationReport.from_detections(
                ground_truth, detections, **self.options)
        for warning in caught:
            self._warn(warning.message)
        return report

    def _warn(self, message: Any) -> None:
        print_log(
            f'{type(self).__name__}: {message}',
            logger='current',
            level=logging.WARNING)

    def _check_options(self) -> None:
        """Check the options before training, not after the first epoch."""
        options = dict(self.options)
        annotations = self._annotations
        if annotations is None:
            annotations = dict(images=[], categories=[], annotations=[])
            if isinstance(options.get('score_thr'), Mapping):
                # Only the values are checked, as the categories are not known.
                EvaluationOptions.from_kwargs(**options)
                options['score_thr'] = None
        ground_truth = ground_truth_from_coco(annotations)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            DetectionCalibrationReport.from_detections(
                ground_truth, detections_from_coco([], ground_truth),
                **options)


def _check_names(options: Mapping[str, Any]) -> None:
    """Raise if a name is neither an argument of the metric nor an option."""
    known = [
        *inspect.signature(DetectionCalibrationMetric).parameters,
        *(option.name for option in fields(EvaluationOptions))
    ]
    known.remove('options')
    for name in options:
        if name not in known:
            raise InvalidTypeError(
                'arguments of DetectionCalibrationMetric must be among '
                f'{known}, but got `{name}`')


def _classwise_table(report: DetectionCalibrationReport) -> str:
    rows = [['category', 'objects', 'detections'] +
            [BY_KEY[key].title for key in _COLUMNS]]
    for row in report.per_class:
        rows.append(
            [row['name'],
             str(row['num_objects']),
             str(row['num_detections'])] +
            [format(row[key], '.3f') for key in _COLUMNS])
    return markdown_table(rows)
