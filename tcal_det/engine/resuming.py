"""Prepare ``tools/train.py --resume`` before the Runner is built."""
import os.path as osp
from typing import Any, Iterator, List

from mmengine.config import Config
from mmengine.dist import all_gather_object

from tcal_det.config_file import parse_config_text
from tcal_det.engine.training_state import (TrainingState, find_training_state,
                                            read_training_state)
from tcal_det.errors import InvalidValueError, UserError

# Keys of `model` whose change makes it another distillation.
COMPARED_KEYS = ('teacher', 'distill_losses')
LONGEST_VALUE = 80


class _Absent:
    """Value of a key that only one of two configs has."""

    def __repr__(self) -> str:
        return 'absent'


ABSENT = _Absent()


def resume(cfg: Config, checkpoint: str) -> List[str]:
    """Apply ``--resume`` to a config.

    Args:
        cfg (Config): Config whose ``resume`` and ``load_from`` are changed in
            place. If the run has no checkpoint yet, ``load_from`` is kept,
            which the first start of a fine-tuning needs.
        checkpoint (str): Path of a checkpoint; 'auto' for the newest complete
            checkpoint in ``cfg.work_dir``.

    Returns:
        list[str]: Notes for the user, one line each.

    Raises:
        MissingFileError: If the checkpoint does not exist.
        InvalidValueError: If the training cannot be resumed from the
            checkpoint, or from any checkpoint of the run.
    """
    if checkpoint == 'auto':
        state, notes = find_training_state(cfg.work_dir)
        if state is None:
            return [
                f'`--resume` finds no checkpoint in {cfg.work_dir!r}: '
                'training starts from the beginning'
            ]
        notes = [f'{note}: resuming from {state.path!r}' for note in notes]
    else:
        try:
            state, notes = read_training_state(osp.expanduser(checkpoint)), []
        except UserError as error:
            raise type(error)(
                f'`--resume` {error}; give an epoch_*.pth or iter_*.pth of '
                'the run, or train from weights alone with --cfg-options '
                'load_from=FILE') from None
    cfg.resume = True
    cfg.load_from = state.path
    return notes + distillation_changes(state, cfg.pretty_text)


def check_same_checkpoint(cfg: Config) -> None:
    """Check that all processes have chosen the same checkpoint.

    On a shared file system with delays, one machine may not yet see a file
    that another machine has written.

    Args:
        cfg (Config): Config that :func:`resume` has changed.

    Raises:
        InvalidValueError: If the checkpoints differ; in all processes.
    """
    chosen = all_gather_object(cfg.get('load_from'))
    if len(set(chosen)) > 1:
        raise InvalidValueError(
            '`--resume` must find the same checkpoint in all processes, but '
            f'finds {chosen}: start again when the file system shows the '
            'same files everywhere, or give --resume FILE')


def distillation_changes(state: TrainingState, config_text: str) -> List[str]:
    """Compare teacher and distillation losses with those of a checkpoint.

    Args:
        state (TrainingState): Checkpoint to resume from. Its config is
            parsed, but not run.
        config_text (str): Current config as mmengine writes it.

    Returns:
        list[str]: Lines with 'key: old -> new', one for each difference.
    """
    if not state.config_text:
        return [
            f'whether `--resume` changes the distillation of {state.path!r} '
            'is unknown: the checkpoint does not hold its config'
        ]
    try:
        old, new = (
            dict(parse_config_text(text).get('model', {}))
            for text in (state.config_text, config_text))
    except (InvalidValueError, TypeError, ValueError) as error:
        return [
            f'whether `--resume` changes the distillation of {state.path!r} '
            f'is unknown: {error}'
        ]
    return [
        f'`--resume` changes the distillation of {state.path!r}: {change}'
        for key in COMPARED_KEYS for change in _differences(
            old.get(key, ABSENT), new.get(key, ABSENT), f'model.{key}')
    ]


def _differences(old: Any, new: Any, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}, key=str):
            yield from _differences(
                old.get(name, ABSENT), new.get(name, ABSENT), f'{key}.{name}')
    elif (isinstance(old, (list, tuple)) and isinstance(new, (list, tuple))
          and len(old) == len(new)):
        for i, pair in enumerate(zip(old, new)):
            yield from _differences(*pair, f'{key}.{i}')
    # Two NaN are not equal, but have the same text.
    elif old != new and repr(old) != repr(new):
        yield f'{key}: {_shortened(old)} -> {_shortened(new)}'


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else (
        f'{text[:LONGEST_VALUE - 3]}...')
