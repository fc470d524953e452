"""Find and check the checkpoints from which a training can be resumed."""
import os
import os.path as osp
import re
from collections.abc import Mapping
from typing import List, NamedTuple, Optional, Tuple

from tcal_det.checkpoint_file import read_with_left_out
from tcal_det.errors import InvalidValueError, MissingFileError, UserError

# Keys of mmengine's MessageHub.
_HUB_KEYS = ('log_scalars', 'runtime_info', 'resumed_keys')
_TRAINING_KEYS = ('state_dict', 'optimizer', 'param_schedulers')


class TrainingState(NamedTuple):
    """Checkpoint that was read completely.

    Attributes:
        path (str): Path of the file.
        config_text (str): Config of the training as text; empty if the file
            does not hold it.
    """
    path: str
    config_text: str


def read_training_state(path: str) -> TrainingState:
    """Check that a checkpoint is complete and holds the training state.

    Args:
        path (str): Path of the checkpoint.

    Returns:
        TrainingState: Path and config of the checkpoint.

    Raises:
        MissingFileError: If the file does not exist.
        InvalidValueError: If the file is damaged, or holds only weights.
    """
    if not osp.exists(path):
        raise MissingFileError(f'{path!r} does not exist')
    if osp.isdir(path):
        raise InvalidValueError(f'{path!r} is a folder')
    content, left_out = read_with_left_out(path, repr(path))
    # Building the run restores functions, but not data.
    lost = [
        str(entry) for entry in left_out
        if entry.key.startswith(_TRAINING_KEYS) and not entry.is_function
    ]
    if lost:
        raise InvalidValueError(
            f'{path!r} holds training state that is not read, as it could '
            f'run code: {", ".join(lost[:3])}')
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    missing = [
        f'`{key}`' for key in ('state_dict', 'optimizer', 'message_hub')
        if not isinstance(content.get(key), Mapping)
    ]
    if content.get('optimizer') == {}:
        missing.append('`optimizer`')
    missing += [
        f'`meta.{key}`' for key in ('epoch', 'iter')
        if not isinstance(meta.get(key), int)
    ]
    if isinstance(content.get('message_hub'), Mapping):
        missing += [
            f'`message_hub.{key}`' for key in _HUB_KEYS
            if not isinstance(content['message_hub'].get(key), Mapping)
        ]
    if missing:
        raise InvalidValueError(
            f'{path!r} does not hold the state of a training: it has no '
            f'{", no ".join(missing)}')
    text = meta.get('cfg')
    return TrainingState(path, text if isinstance(text, str) else '')


def find_training_state(
        work_dir: str) -> Tuple[Optional[TrainingState], List[str]]:
    """Find the newest complete checkpoint of a run.

    Args:
        work_dir (str): Work directory of the run.

    Returns:
        tuple[TrainingState, list[str]]: Checkpoint, or None if the run has
        not written any; and problems of newer checkpoints, one line each.

    Raises:
        InvalidValueError: If there are checkpoints, but all are damaged.
    """
    candidates, problems = _candidates(work_dir)
    for path in candidates:
        try:
            return read_training_state(path), problems
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise InvalidValueError(
            f'`--resume` finds no complete checkpoint in {work_dir!r}: '
            f'{"; ".join(problems)}; training from the beginning would '
            'overwrite them: move them away first, or give --resume FILE')
    return None, []


def _candidates(work_dir: str) -> Tuple[List[str], List[str]]:
    """List the checkpoints of a run, newest first, and their problems."""
    if not osp.isdir(work_dir):
        return [], []
    steps = {
        entry.path: int(match.group(1))
        for entry in os.scandir(work_dir)
        for match in [re.match(r'(?:epoch|iter)_(\d+)\.pth$', entry.name)]
        if match
    }
    saved = sorted(
        steps,
        key=lambda path: (_time_of_writing(path), steps[path]),
        reverse=True)
    pointer = osp.join(work_dir, 'last_checkpoint')
    if not osp.lexists(pointer):
        return saved, []
    try:
        with open(pointer, encoding='utf-8') as file:
            named = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        return saved, [f'{pointer!r} cannot be read ({error})']
    # In a copy of a work_dir, the pointer still names the original file.
    paths = [osp.join(work_dir, osp.basename(named)), named]
    existing = [path for path in paths if osp.isfile(path)]
    if not existing:
        return saved, [
            f'{pointer!r} names {named[:200]!r}, which does not exist'
            if named else f'{pointer!r} is empty'
        ]
    # Checkpoints of a run that was killed before it updated the pointer.
    unnamed = [
        path for path in saved
        if steps[path] > steps.get(existing[0], steps[path])
        and _time_of_writing(path) >= _time_of_writing(pointer)
    ]
    return list(dict.fromkeys(unnamed + existing[:1] + saved)), []


def _time_of_writing(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        # A link to a file that does not exist.
        return 0
