"""Show reliability diagrams of validations and tests in the visualizer."""
from typing import Dict, Optional

from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from tcal_det.evaluation.metrics import DetectionCalibrationMetric
from tcal_det.registry import HOOKS


@HOOKS.register_module()
class ReliabilityFigureHook(Hook):
    """Send reliability diagrams to the visualizer after each evaluation.

    For every ``DetectionCalibrationMetric`` of the evaluator there are two
    images, precision over the score and precision x IoU over the score. Their
    names are ``PREFIX_reliability_precision`` and ``PREFIX_reliability_iou``
    with the metric's prefix, by default ``calib``.
    """

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: Optional[Dict[str, float]] = None) -> None:
        """Draw the diagrams of the validation."""
        self._draw(runner, runner.val_evaluator)

    def after_test_epoch(self,
                         runner: Runner,
                         metrics: Optional[Dict[str, float]] = None) -> None:
        """Draw the diagrams of the test."""
        self._draw(runner, runner.test_evaluator)

    @master_only
    def _draw(self, runner: Runner, evaluator: Evaluator) -> None:
        # matplotlib is slow to import.
        from tcal_det.visualization import figure_as_image
        from tcal_det.visualization.detection_report import reliability_figures
        step = MessageHub.get_current_instance().get_info('iter', 0)
        for metric in evaluator.metrics:
            if not isinstance(metric, DetectionCalibrationMetric):
                continue
            for name, figure in reliability_figures(metric.report).items():
                # No slash in the name: the local backend would not find the
                # folder, and would give no error.
                runner.visualizer.add_image(f'{metric.prefix}_{name}',
                                            figure_as_image(figure), step)
