"""The student alone, for release."""
import torch

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import replaced_atomically
from tcal_det.models.distillers.frozen_teacher import read_checkpoint

# Learnable parts of losses, e.g. AEKT's head: trained and resumed with the
# run, no part of the detector.
LOSS_PREFIX = 'distill_losses.'


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
    state = {
        key: value
        for key, value in content['state_dict'].items()
        if not key.startswith(LOSS_PREFIX)
    }
    with replaced_atomically(out) as temporary:
        torch.save(
            dict(meta=content.get('meta', {}), state_dict=state), temporary)
