"""The student alone, for release."""
import torch

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import replaced_atomically
from tcal_det.models.distillers.detector_files import (read_checkpoint,
                                                       without_loss_parameters)


def publish_student(checkpoint: str, out: str) -> None:
    """Write a training checkpoint's detector weights and ``meta`` only.

    Optimizer, schedules, the second copy of EMA and learnable parts of
    losses are left behind. The keys are the plain detector's.

    Args:
        checkpoint (str): Written by training; a path or a URL.
        out (str): The file to write.

    Raises:
        MissingFileError, InvalidValueError: If ``checkpoint`` cannot be read
            or holds no weights.
    """
    content = read_checkpoint(checkpoint, f'checkpoint {checkpoint!r}')
    if 'state_dict' not in content:
        raise InvalidValueError(
            f'checkpoint {checkpoint!r} must have the key `state_dict`, but '
            f'has {sorted(content)}')
    state = without_loss_parameters(dict(content['state_dict']))
    with replaced_atomically(out) as temporary:
        torch.save(
            dict(meta=content.get('meta', {}), state_dict=state), temporary)
