"""Recorded data of one stage of an RoI head during a detector's loss."""
from typing import Any, Dict, Optional, Tuple

import torch.nn as nn
from torch import Tensor


class ObservedStage:
    """Hooks on one stage, and the data that they record.

    The last call of the head and of its loss belongs to the training. OHEM
    calls both earlier on all RoIs, to choose among them. A mask branch may
    call the extractor again afterwards.
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
        # PISA calls the loss without weights, to compute weights from it.
        if len(args) == 3:
            self.targets = dict(
                labels=args[1],
                weight=args[2],
                avg_factor=kwargs.get('avg_factor'))
