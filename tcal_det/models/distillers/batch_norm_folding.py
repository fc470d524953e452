"""A teacher's convolutions that do what their BatchNorms do."""
import copy
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..head_adapters import adapter_for


def fold_batch_norms(detector: nn.Module) -> nn.Module:
    """Let convolutions do what the frozen BatchNorms after them do.

    Which convolution a BatchNorm follows is taken from the order in which
    they were registered, as mmcv's ``fuse_conv_bn`` does. A backbone may
    call them in another order: the folded detector is used only if it
    classifies like the original.

    Args:
        detector (nn.Module): In eval; is not changed.

    Returns:
        nn.Module: A folded copy, or the detector itself.
    """
    folded = copy.deepcopy(detector)
    if not _fold_in_order_of_registration(folded):
        return detector
    with torch.no_grad():
        expected, logits = (
            adapter_for(model, 'teacher').probe()
            for model in (detector, folded))
    # TensorFloat-32 may round by 1e-3; a wrong order changes everything. The
    # logits of masked classes are -inf, whatever the order.
    finite = expected[expected.isfinite()]
    tolerance = 1e-2 * finite.abs().max().item() if len(finite) else 0.0
    if torch.allclose(logits, expected, rtol=0, atol=tolerance):
        return folded
    return detector


def _fold_in_order_of_registration(detector: nn.Module) -> bool:
    """Fold in place; say whether there was anything to fold."""
    found = False
    # RTMDet's levels share convolutions, and follow them with BatchNorms of
    # their own.
    places = Counter(child for parent in detector.modules()
                     for child in parent.children())
    for parent in detector.modules():
        convolution = None
        for name, module in list(parent.named_children()):
            if (convolution is not None and isinstance(module, _BatchNorm)
                    and module.running_mean is not None
                    and module.num_features == convolution.out_channels):
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight, convolution.bias, module.running_mean,
                    module.running_var, module.eps, module.weight, module.bias)
                setattr(parent, name, nn.Identity())
                found = True
            # A subclass may make its weights anew in each forward.
            convolution = None
            if type(module) is nn.Conv2d and places[module] == 1:
                convolution = module
    detector.requires_grad_(False).eval()
    return found
