"""Check of a config that the metric will find ground truth."""
from typing import Any, Iterator, List

from tcal_det.errors import InvalidValueError

METRIC = 'DetectionCalibrationMetric'
PACKING = 'PackDetInputs'


def check_metric_annotations(cfg: Any, *splits: str) -> None:
    """Raise if the metric of a config would find no ground truth.

    Without ``ann_file`` the metric uses the ``instances`` of the data samples,
    which PackDetInputs leaves out unless its ``meta_keys`` include them.
    Otherwise the error would appear only at the first validation, after an
    epoch.

    Args:
        cfg (Any): Config with evaluators and dataloaders.
        *splits (str): Splits whose evaluators will be used, 'val' or 'test'.

    Raises:
        InvalidValueError: If ground truth is missing; the message names the
            evaluator and the pipeline. Pipelines with another packing
            transform are not checked.
    """
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for metric in _metrics(cfg.get(f'{split}_evaluator')):
            if (_type_name(metric) != METRIC
                    or metric.get('ann_file') is not None):
                continue
            for pipeline in _pipelines(loader.get('dataset'), []):
                if _lacks_instances(pipeline):
                    raise InvalidValueError(
                        f'`{split}_evaluator`: {METRIC} must have `ann_file`, '
                        'or `instances` must be among the `meta_keys` of '
                        f'{PACKING} in the pipeline of `{split}_dataloader`, '
                        'but neither is: give the file with --cfg-options '
                        f'{split}_evaluator.ann_file=PATH')


def _metrics(evaluator: Any) -> List[dict]:
    """Get the metric configs of an evaluator, which can have three forms."""
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator = evaluator['metrics']
    if isinstance(evaluator, dict):
        evaluator = [evaluator]
    return [metric for metric in evaluator or () if isinstance(metric, dict)]


def _pipelines(dataset: Any, outer: List[dict]) -> Iterator[List[dict]]:
    """Get all transforms that the samples of each innermost data set pass."""
    if not isinstance(dataset, dict):
        return
    transforms = [*(dataset.get('pipeline') or ()), *outer]
    wrapped = dataset.get('datasets') or [dataset.get('dataset')]
    if wrapped == [None]:
        yield transforms
    for inner in wrapped:
        yield from _pipelines(inner, transforms)


def _lacks_instances(pipeline: List[dict]) -> bool:
    keys = [
        transform.get('meta_keys') or () for transform in pipeline
        if _type_name(transform) == PACKING
    ]
    return bool(keys) and not any('instances' in meta_keys
                                  for meta_keys in keys)


def _type_name(part: Any) -> str:
    """Get the name of a type: a class, or a text with or without scope."""
    kind = part.get('type') if isinstance(part, dict) else None
    return str(getattr(kind, '__name__', kind)).split('.')[-1]
