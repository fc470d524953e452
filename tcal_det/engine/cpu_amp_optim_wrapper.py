"""Mixed precision on a machine without a GPU, by bfloat16 autocast."""
from contextlib import contextmanager

import torch
import torch.nn as nn
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmengine.optim import OptimWrapper
from torch.nn.modules.module import (register_module_forward_hook,
                                     register_module_forward_pre_hook)

from tcal_det.registry import OPTIM_WRAPPERS


def _as_float32(tensors: tuple) -> tuple:
    return tuple(tensor.float() for tensor in tensors)


def _roi_features_in_float32(module: nn.Module, args: tuple):
    if isinstance(module, BaseRoIExtractor):
        return (_as_float32(args[0]), *args[1:])
    return None


def _proposals_in_float32(module: nn.Module, _, output):
    if isinstance(module, RPNHead):
        return tuple(_as_float32(levels) for levels in output)
    return None


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """OptimWrapper whose steps run under CPU autocast in bfloat16.

    mmengine's AmpOptimWrapper requires a GPU. bfloat16 has the range of
    float32, so no loss scaling is needed. mmcv's CPU kernels of NMS and
    RoIAlign do not support bfloat16: their inputs are converted to float32,
    in student and teacher. The arguments are those of OptimWrapper.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Run one step with autocast and gradient accumulation.

        Args:
            model (nn.Module): Model that is trained.
        """
        hooks = (register_module_forward_pre_hook(_roi_features_in_float32),
                 register_module_forward_hook(_proposals_in_float32))
        try:
            with super().optim_context(model), torch.autocast(
                    'cpu', dtype=torch.bfloat16):
                yield
        finally:
            for hook in hooks:
                hook.remove()
