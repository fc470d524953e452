"""Write the HTML report of a test."""
import os.path as osp
from typing import Dict, Optional

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.metrics import DetectionCalibrationMetric
from tcal_det.registry import HOOKS
from tcal_det.report import prepare_report, write_report


@HOOKS.register_module()
class ReportHook(Hook):
    """Write the HTML page of ``tcal-report`` after a test.

    Args:
        out (str): Path of the HTML file to write.

    Raises:
        InvalidValueError: If ``out`` has another suffix, or if a package of
            the extra ``report`` is not installed.
    """

    def __init__(self, out: str) -> None:
        prepare_report(out, '`out` of ReportHook')
        self.out = out

    def before_test(self, runner: Runner) -> None:
        """Check that the test measures calibration, before it runs."""
        self._metric(runner)

    @master_only
    def after_test_epoch(self,
                         runner: Runner,
                         metrics: Optional[Dict[str, float]] = None) -> None:
        """Write the HTML page."""
        report = self._metric(runner).report
        dataset = runner.test_dataloader.dataset
        infos = (dataset.get_data_info(row) for row in range(len(dataset)))
        name = osp.splitext(osp.basename(runner.cfg.filename or 'test'))[0]
        write_report(
            self.out,
            report.ground_truth, {name: report.detections},
            image_files={info['img_id']: info['img_path']
                         for info in infos})
        runner.logger.info(f'Report: {self.out}')

    @staticmethod
    def _metric(runner: Runner) -> DetectionCalibrationMetric:
        for metric in runner.test_evaluator.metrics:
            if isinstance(metric, DetectionCalibrationMetric):
                return metric
        raise InvalidValueError(
            'a report needs a tcal_det.DetectionCalibrationMetric in '
            '`test_evaluator`, but got '
            f'{[type(m).__name__ for m in runner.test_evaluator.metrics]}'
            ": add dict(type='tcal_det.DetectionCalibrationMetric', "
            'ann_file=...)')
