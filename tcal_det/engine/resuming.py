"""What ``tools/train.py --resume`` does before there is a Runner."""
import os.path as osp
from typing import Any, Iterator, List

from mmengine.config import Config
from mmengine.dist import all_gather_object

from tcal_det.config_file import parse_config_text
from tcal_det.engine.training_state import (TrainingState, find_training_state,
                                            read_training_state)
from tcal_det.errors import InvalidValueError, UserError

# Keys of `model` that make another distillation of the same student.
COMPARED_KEYS = ('teacher', 'distill_losses')
LONGEST_VALUE = 80


class _Absent:
    """A key that only one of two configs has."""

    def __repr__(self) -> str:
        return 'absent'


ABSENT = _Absent()


def resume(cfg: Config, checkpoint: str) -> List[str]:
    """Apply ``--resume``.

    Args:
        cfg (Config): Changed in place: ``resume`` and ``load_from``. Where
            the run has no checkpoint yet it keeps its own ``load_from``, as
            the first launch of a fine-tuning needs.
        checkpoint (str): A file, or 'auto' for the newest whole one in
            ``cfg.work_dir``.

    Returns:
        list[str]: What the user should know, a line for each.

    Raises:
        MissingFileError: If there is no such file.
        InvalidValueError: If training cannot go on from it, or from any
            checkpoint of the run.
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
    """Refuse to train if the processes have chosen different checkpoints.

    On a shared file system that lags behind, one machine may not see yet
    what another has written.

    Args:
        cfg (Config): After :func:`resume`.

    Raises:
        InvalidValueError: In all processes.
    """
    chosen = all_gather_object(cfg.get('load_from'))
    if len(set(chosen)) > 1:
        raise InvalidValueError(
            '`--resume` must find the same checkpoint in all processes, but '
            f'finds {chosen}: start again when the file system has settled, '
            'or give --resume FILE')


def distillation_changes(state: TrainingState, config_text: str) -> List[str]:
    """Compare teacher and distillation losses with those resumed from.

    Args:
        state (TrainingState): Its config is parsed, not run.
        config_text (str): The config now, as mmengine writes it.

    Returns:
        list[str]: A line with 'key: old -> new' for each difference.
    """
    if not state.config_text:
        return [
            f'whether `--resume` changes the distillation of {state.path!r} '
            'cannot be told: it does not hold its config'
        ]
    try:
        old, new = (
            dict(parse_config_text(text).get('model', {}))
            for text in (state.config_text, config_text))
    except (InvalidValueError, TypeError, ValueError) as error:
        return [
            f'whether `--resume` changes the distillation of {state.path!r} '
            f'cannot be told: {error}'
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
    # Two NaN are not equal, but read alike.
    elif old != new and repr(old) != repr(new):
        yield f'{key}: {_shortened(old)} -> {_shortened(new)}'


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else (
        f'{text[:LONGEST_VALUE - 3]}...')
