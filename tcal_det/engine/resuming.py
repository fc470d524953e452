"""What ``tools/train.py --resume`` does before there is a Runner."""
import ast
from typing import Any, Iterator, List, Optional

from mmengine.config import Config
from mmengine.dist import all_gather_object

from tcal_det.engine.training_state import (find_training_state,
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
            state, notes = read_training_state(checkpoint), []
        except UserError as error:
            raise type(error)(
                f'`--resume` {error}; give an epoch_*.pth or iter_*.pth of '
                'the run, or train from weights alone with --cfg-options '
                'load_from=FILE') from None
    cfg.resume = True
    cfg.load_from = state.path
    return notes + [
        f'`--resume` changes the distillation of {state.path!r}: {change}'
        for change in distillation_changes(state.config_text, cfg.pretty_text)
    ]


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


def distillation_changes(before: str, after: str) -> List[str]:
    """Compare teacher and distillation losses of two configs.

    Args:
        before (str): A config as text, as mmengine writes it. It is parsed,
            not run: it comes from a file.
        after (str): The same.

    Returns:
        list[str]: A 'key: old -> new' for each difference; empty as well if
            a text cannot be parsed.
    """
    old, new = (_distillation_of(text) for text in (before, after))
    if old is None or new is None:
        return []
    return list(_differences(old, new, 'model'))


def _distillation_of(config_text: str) -> Optional[dict]:
    try:
        for statement in ast.parse(config_text).body:
            if (isinstance(statement, ast.Assign)
                    and isinstance(statement.targets[0], ast.Name)
                    and statement.targets[0].id == 'model'):
                model = _value_of(statement.value, config_text)
                return {
                    key: model[key]
                    for key in COMPARED_KEYS if key in model
                } if isinstance(model, dict) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return None


def _value_of(node: ast.AST, text: str) -> Any:
    """A literal; ``dict(key=value)`` and ``dict({'key': value})`` are too."""
    if isinstance(node, ast.Dict):
        return {
            str(_value_of(key, text)): _value_of(value, text)
            for key, value in zip(node.keys, node.values) if key is not None
        }
    if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == 'dict'):
        items = {}
        for argument in node.args:
            value = _value_of(argument, text)
            items.update(value if isinstance(value, dict) else {})
        for keyword in node.keywords:
            items[str(keyword.arg)] = _value_of(keyword.value, text)
        return items
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value_of(item, text) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        # For instance inf and nan, which mmengine writes as names.
        return ast.get_source_segment(text, node)


def _differences(old: Any, new: Any, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _differences(
                old.get(name, ABSENT), new.get(name, ABSENT), f'{key}.{name}')
    elif old != new:
        yield f'{key}: {_shortened(old)} -> {_shortened(new)}'


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else (
        f'{text[:LONGEST_VALUE - 3]}...')
