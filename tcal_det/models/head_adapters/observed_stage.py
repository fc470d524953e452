"""What a stage of an RoI head does while a detector's loss runs."""
from typing import Any, Dict, Optional, Tuple

import torch.nn as nn
from torch import Tensor


class ObservedStage:
    """Hooks on one stage, and what they saw.

    The last call of the head, and of its loss, is the training's: OHEM runs
    both before, on all RoIs, to choose among them. Extractors may be called
    afterwards, by a mask branch.
    """

    def __init__(self) -> None:
        self.logits: Optional[Tensor] = None
        self.features: Tuple[Tensor, ...] = ()
        self.rois: Optional[Tensor] = None
        self.targets: Dict[str, Any] = {}
        self._extracted: tuple = ()

    def record_rois(self, _: nn.Module, args: tuple) -> None:
        self._extracted = args

    def record_logits(self, _: nn.Module, args: tuple, output: tuple) -> None:
        self.features, self.rois = self._extracted[:2]
        self.logits = output[0]
        self.targets = {}

    def record_targets(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        # Without weights it is PISA, which weighs by the loss it sees.
        if len(args) == 3:
            self.targets = dict(
                labels=args[1],
                weight=args[2],
                avg_factor=kwargs.get('avg_factor'))
