"""A look at a checkpoint before mmengine takes what fits of it."""
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from tcal_det.models.distillers.detector_files import load_whole_state


class CheckpointFitHook(Hook):
    """Refuses the checkpoint of another detector.

    mmengine loads what fits, and leaves the rest of the detector as it was
    drawn.

    Args:
        checkpoint (str): Path or URL, for the message.
        allow_partial (bool): Whether to log what does not fit instead.
            Defaults to False.
    """
    # Before hooks that change what was read.
    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str, allow_partial: bool = False) -> None:
        self.checkpoint = checkpoint
        self.allow_partial = allow_partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the weights with the detector's.

        Args:
            runner (Runner): Has the detector, perhaps inside of a wrapper.
            checkpoint (dict): What was read.

        Raises:
            InvalidValueError: If weights are missing, left over or misshapen.
        """
        detector = runner.model
        while is_model_wrapper(detector) or isinstance(detector, BaseTTAModel):
            detector = detector.module
        load_whole_state(detector, checkpoint,
                         f'detector checkpoint {self.checkpoint!r}',
                         'detector', self.allow_partial)
