"""Check that a loaded checkpoint belongs to the detector."""
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from tcal_det.models.distillers.detector_files import load_detector_state


class CheckpointFitHook(Hook):
    """Raise an error for the checkpoint of another detector.

    mmengine itself loads the weights that fit, and leaves the other weights
    of the detector at their random initial values.

    Args:
        checkpoint (str): Path or URL of the checkpoint in messages.
        allow_partial (bool): Whether weights that do not fit are only logged.
            Defaults to False.
    """
    # Runs before hooks that change the loaded checkpoint.
    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str, allow_partial: bool = False) -> None:
        self.checkpoint = checkpoint
        self.allow_partial = allow_partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the weights of the checkpoint with the detector's.

        Args:
            runner (Runner): Runner with the detector, which may be inside a
                wrapper.
            checkpoint (dict): Content of the checkpoint.

        Raises:
            InvalidValueError: If weights are missing, unexpected or of
                another shape.
        """
        detector = runner.model
        while is_model_wrapper(detector) or isinstance(detector, BaseTTAModel):
            detector = detector.module
        load_detector_state(detector, checkpoint,
                            f'detector checkpoint {self.checkpoint!r}',
                            'detector', self.allow_partial)
