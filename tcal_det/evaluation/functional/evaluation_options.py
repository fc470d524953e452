"""Options of an evaluation, shared by function, metric and command.

To add an option, add a field here. The metric then accepts it, ``tcal-eval``
has an argument for it, and the settings of the report contain it.
"""
from dataclasses import dataclass, field, fields
from typing import Any, Dict, Mapping, Union

from tcal_det.checks import (check_choice, check_count, check_fraction,
                             check_iou_thr, shortened)
from tcal_det.errors import InvalidTypeError, InvalidValueError, UserError
from .binning import CLOSED_SIDES, MAX_BINS
from .matching import ZERO_IOU_RULES

MAX_POSITION_BINS = 100
ScoreThreshold = Union[None, float, str, Mapping[Any, float]]


def _option(default: Any, explanation: str, check: Any, *args: Any) -> Any:
    return field(
        default=default,
        metadata=dict(explanation=explanation, check=check, args=args))


@dataclass(frozen=True)
class EvaluationOptions:
    """Options that define how detections are evaluated.

    Args:
        score_thr (float | str | Mapping, optional): Lowest score of the
            counted detections: one number; a number for each category id; or
            'lrp_optimal', the threshold that minimises the LRP of each class
            at IoU threshold 0 on the evaluated detections (Kuzucu et al.; to
            compare detectors, choose the thresholds on another split). A class
            without a threshold keeps all detections, with a warning. AP and
            OCE always use all detections. Defaults to None, which keeps all
            detections.
        max_dets (int): Maximum number of counted detections per image and
            class, best scores first. Defaults to 100.
        zero_iou (str): Rule for disjoint boxes at IoU threshold 0, see
            :func:`match_detections`. Defaults to 'reject'.
        closed (str): Closed side of the bins, see :func:`bin_index`.
            Defaults to 'right'.
        d_ece_iou_thr (float): IoU threshold of D-ECE, Brier score and NLL,
            in [0, 1). Defaults to 0.5.
        d_ece_bins (int): Number of score bins of D-ECE, in [1, 1000].
            Defaults to 10.
        laece_iou_thr (float): IoU threshold of LaECE, in [0, 1). Defaults to
            0.1.
        laece_bins (int): Number of score bins of LaECE and LaECE_0, in
            [1, 1000]. Defaults to 25.
        olrp_iou_thr (float): IoU threshold of oLRP, in [0, 1). Defaults to
            0.5.
        position_bins (int): Number of bins per dimension of position-dependent
            D-ECE (score, cx, cy), in [1, 100]. With more than 10 classes the
            maximum is lower, as all classes together may have at most 10
            million cells. Defaults to 8.
        position_min_samples (int): Minimum number of detections of a cell of
            position-dependent D-ECE; cells with fewer are not used. Defaults
            to 8.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.
    """
    score_thr: ScoreThreshold = None
    max_dets: int = _option(
        100, 'maximum number of counted detections per image and class, best '
        'scores first', check_count)
    zero_iou: str = _option(
        'reject', 'rule for disjoint boxes at IoU threshold 0: accept '
        'matches them, as published LaECE_0 figures do', check_choice,
        ZERO_IOU_RULES)
    closed: str = _option('right', 'closed side of the bins', check_choice,
                          CLOSED_SIDES)
    d_ece_iou_thr: float = _option(
        0.5, 'IoU threshold of D-ECE, Brier score and NLL, in [0, 1)',
        check_iou_thr)
    d_ece_bins: int = _option(
        10, f'number of score bins of D-ECE, 1 to {MAX_BINS}', check_count, 1,
        MAX_BINS)
    laece_iou_thr: float = _option(0.1, 'IoU threshold of LaECE, in [0, 1)',
                                   check_iou_thr)
    laece_bins: int = _option(
        25, f'number of score bins of LaECE and LaECE_0, 1 to {MAX_BINS}',
        check_count, 1, MAX_BINS)
    olrp_iou_thr: float = _option(0.5, 'IoU threshold of oLRP, in [0, 1)',
                                  check_iou_thr)
    position_bins: int = _option(
        8, 'number of bins per dimension of position-dependent D-ECE, 1 to '
        f'{MAX_POSITION_BINS}', check_count, 1, MAX_POSITION_BINS)
    position_min_samples: int = _option(
        8, 'minimum number of detections of a cell of position-dependent '
        'D-ECE; cells with fewer are not used', check_count)

    def __post_init__(self) -> None:
        for option in fields(self):
            if 'check' in option.metadata:
                checked = option.metadata['check'](option.name,
                                                   getattr(self, option.name),
                                                   *option.metadata['args'])
                object.__setattr__(self, option.name, checked)
        _check_score_thr(self.score_thr)

    @classmethod
    def from_kwargs(cls, **options: Any) -> 'EvaluationOptions':
        """Create options from keyword arguments and check their names."""
        known = [option.name for option in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InvalidTypeError(
                f'options of an evaluation must be among {known}, but got '
                f'`{unknown[0]}`')
        return cls(**options)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values by name; category ids become texts."""
        options = {
            option.name: getattr(self, option.name)
            for option in fields(self)
        }
        if isinstance(self.score_thr, Mapping):
            options['score_thr'] = {
                str(category_id): None if value is None else float(value)
                for category_id, value in self.score_thr.items()
            }
        return options


def _check_score_thr(score_thr: ScoreThreshold) -> None:
    remedy = ("`score_thr` must be None, a number in [0, 1], 'lrp_optimal' "
              'or a dict with a number for each category id, but got '
              f'{shortened(score_thr)}')
    if isinstance(score_thr, str):
        if score_thr != 'lrp_optimal':
            raise InvalidValueError(remedy)
    elif isinstance(score_thr, Mapping):
        for category_id, value in score_thr.items():
            # NaN and None: no threshold was found for the class.
            if value is None or value != value:
                continue
            check_fraction(f'score_thr[{category_id!r}]', value)
    elif score_thr is not None:
        try:
            check_fraction('score_thr', score_thr)
        except UserError as error:
            raise type(error)(remedy) from None
