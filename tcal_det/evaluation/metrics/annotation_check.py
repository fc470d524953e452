"""Whether the metric will find ground truth: seen from a config."""
from typing import Any, Iterator, List

from tcal_det.errors import InvalidValueError

METRIC = 'DetectionCalibrationMetric'
PACKING = 'PackDetInputs'


def check_metric_annotations(cfg: Any, *splits: str) -> None:
    """Refuse a config whose metric would find no ground truth.

    Without ``ann_file`` the metric takes the ``instances`` of the data
    samples, which PackDetInputs leaves out unless its ``meta_keys`` have
    them. That shows with the first batch of a validation, an epoch late.

    Args:
        cfg (Any): With evaluators and dataloaders.
        *splits (str): 'val' or 'test', whose evaluators will be used.

    Raises:
        InvalidValueError: Naming the evaluator and the pipeline. Pipelines
            that pack with a transform of their own are left to it.
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
    """The metric configs of an evaluator, which has three forms."""
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator = evaluator['metrics']
    if isinstance(evaluator, dict):
        evaluator = [evaluator]
    return [metric for metric in evaluator or () if isinstance(metric, dict)]


def _pipelines(dataset: Any, outer: List[dict]) -> Iterator[List[dict]]:
    """What the samples of each innermost data set go through."""
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
    return bool(keys) and not any('instances' in some for some in keys)


def _type_name(part: Any) -> str:
    """Name of a type that is a text, with or without scope, or a class."""
    kind = part.get('type') if isinstance(part, dict) else None
    return str(getattr(kind, '__name__', kind)).split('.')[-1]
