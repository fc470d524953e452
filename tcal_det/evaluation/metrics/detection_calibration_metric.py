"""Calibration of a detector, measured beside its mAP."""
import logging
import warnings
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, print_log
from mmengine.visualization import Visualizer
from terminaltables import AsciiTable

from tcal_det.fileio import write_json_atomically
from tcal_det.registry import METRICS
from ..functional import (DetectionCalibrationReport, detections_from_coco,
                          evaluate_detections, ground_truth_from_coco)
from ..results_file import categories_by_label, check_each_image_once
from .sample_records import (annotations_of_records, detections_of_records,
                             read_needed_annotations, sample_record)

METRIC_KEYS = ('d_ece', 'd_ece_over', 'd_ece_under', 'd_ece_coverage', 'laece',
               'laece_0', 'laace_0', 'lrp_0', 'lrp_0_loc', 'lrp_0_fp',
               'lrp_0_fn', 'olrp', 'olrp_loc', 'olrp_fp', 'olrp_fn')
# Columns of the classwise table: title by key.
CLASSWISE_COLUMNS = dict(
    name='category',
    num_objects='objects',
    num_detections='detections',
    d_ece='D-ECE',
    d_ece_over='over',
    laece='LaECE',
    laece_0='LaECE_0',
    lrp_0='LRP_0',
    olrp='oLRP',
    olrp_threshold='oLRP score')


@METRICS.register_module()
class DetectionCalibrationMetric(BaseMetric):
    """D-ECE, LaECE, LaACE, LRP and oLRP, beside CocoMetric.

    All are fractions in [0, 1], lower is better (save the coverage), and
    NaN where undefined, which the log then says in one line with the
    reason. Keys are never left out: mmengine would log the last defined
    value again, and ``save_best`` would fail. Detections are matched as in
    COCOeval, once for each IoU threshold.

    Args:
        ann_file (str, optional): COCO annotations of all images. Defaults
            to None: the ``instances`` of the data samples, as in CocoMetric,
            for which they must be among the ``meta_keys`` of PackDetInputs.
        score_thr (float | str | Mapping, optional): Detections under it are
            left out: a number; 'lrp_optimal'; or one number for each
            category id. See :func:`evaluate_detections`. Defaults to None,
            keep everything.
        d_ece_iou_thr (float): IoU threshold of D-ECE. Defaults to 0.5.
        d_ece_bins (int): Bins of D-ECE. Defaults to 10.
        laece_iou_thr (float): IoU threshold of LaECE. Defaults to 0.1.
        laece_bins (int): Bins of LaECE and LaECE_0. Defaults to 25.
        olrp_iou_thr (float): IoU threshold of oLRP. Defaults to 0.5.
        max_dets (int): Detections per image and class. Defaults to 100.
        classwise (bool): Whether to log a table with a row for each class.
            Defaults to False.
        plot (bool): Whether to send reliability diagrams to the visualizer.
            Defaults to False.
        outfile_prefix (str, optional): Write the full report, with all bin
            tables, to ``{outfile_prefix}.calibration.json``. Defaults to
            None.
        backend_args (dict, optional): Of the file backend that reads
            ``ann_file``. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Of the keys. Defaults to None, 'calib'.

    Raises:
        MissingFileError: If ``ann_file`` does not exist.
        InvalidTypeError, InvalidValueError: If an option or a record of
            ``ann_file`` is wrong.
    """

    default_prefix = 'calib'

    def __init__(self,
                 ann_file: Optional[str] = None,
                 score_thr: Union[None, float, str, Mapping] = None,
                 d_ece_iou_thr: float = 0.5,
                 d_ece_bins: int = 10,
                 laece_iou_thr: float = 0.1,
                 laece_bins: int = 25,
                 olrp_iou_thr: float = 0.5,
                 max_dets: int = 100,
                 classwise: bool = False,
                 plot: bool = False,
                 outfile_prefix: Optional[str] = None,
                 backend_args: Optional[dict] = None,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.options = dict(
            score_thr=score_thr,
            d_ece_iou_thr=d_ece_iou_thr,
            d_ece_bins=d_ece_bins,
            laece_iou_thr=laece_iou_thr,
            laece_bins=laece_bins,
            olrp_iou_thr=olrp_iou_thr,
            max_dets=max_dets)
        self.classwise = classwise
        self.plot = plot
        self.outfile_prefix = outfile_prefix
        self._annotations = None
        if ann_file is not None:
            self._annotations = read_needed_annotations(ann_file, backend_args)
        else:
            # Here, as no pipeline can be seen from a metric, and what is
            # missing shows an epoch later.
            print_log(
                f'{type(self).__name__} without `ann_file` takes the '
                '`instances` of the data samples: they must be among the '
                "`meta_keys` of the pipeline's PackDetInputs",
                logger='current')
        self._check_options()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what the figures need of one batch, on the CPU.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``pred_instances``,
                ``img_id`` and ``ori_shape``, and ``instances`` where there
                is no ``ann_file``.
        """
        self.results.extend(
            sample_record(sample, self._annotations is None)
            for sample in data_samples)

    def compute_metrics(self, results: List[dict]) -> Dict[str, float]:
        """Measure the detections of all ranks.

        Args:
            results (list[dict]): Records of :meth:`process`.

        Returns:
            dict[str, float]: ``METRIC_KEYS``, NaN where undefined.
        """
        report = self._evaluate(results)
        if self.classwise:
            print_log('\n' + _classwise_table(report), logger='current')
        if self.plot:
            self._plot(report)
        if self.outfile_prefix is not None:
            write_json_atomically(f'{self.outfile_prefix}.calibration.json',
                                  report.to_dict())
        return {key: report.overall[key] for key in METRIC_KEYS}

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
            report = evaluate_detections(ground_truth, detections,
                                         **self.options)
        for warning in caught:
            print_log(
                f'{type(self).__name__}: {warning.message}',
                logger='current',
                level=logging.WARNING)
        return report

    def _check_options(self) -> None:
        """Complain before a training, not after its first epoch."""
        options = dict(self.options)
        annotations = self._annotations
        if annotations is None:
            annotations = dict(images=[], categories=[], annotations=[])
            if isinstance(options['score_thr'], Mapping):
                # Its categories are not known yet.
                options['score_thr'] = None
        ground_truth = ground_truth_from_coco(annotations)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            evaluate_detections(ground_truth,
                                detections_from_coco([], ground_truth),
                                **options)

    def _plot(self, report: DetectionCalibrationReport) -> None:
        # matplotlib is only needed here.
        from tcal_det.visualization import figure_as_image
        from tcal_det.visualization.detection_report import reliability_figures
        visualizer = Visualizer.get_current_instance()
        step = MessageHub.get_current_instance().get_info('iter', 0)
        for name, figure in reliability_figures(report).items():
            # No slash: the local backend would not find the folder, and
            # not say so.
            visualizer.add_image(f'{self.prefix}_{name}',
                                 figure_as_image(figure), step)


def _classwise_table(report: DetectionCalibrationReport) -> str:
    rows = [list(CLASSWISE_COLUMNS.values())]
    for row in report.per_class:
        rows.append([
            format(row[key], '.3f')
            if isinstance(row[key], float) else str(row[key])
            for key in CLASSWISE_COLUMNS
        ])
    return AsciiTable(rows).table
