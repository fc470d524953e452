"""Folding of a teacher's BatchNorms into its convolutions."""
import copy
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..head_adapters import adapter_for


def fold_batch_norms(detector: nn.Module) -> nn.Module:
    """Fold frozen BatchNorms into the convolutions before them.

    The order of registration tells which convolution a BatchNorm follows, as
    in mmcv's ``fuse_conv_bn``. A backbone may call its modules in another
    order. The folded detector is therefore used only if it has the same
    logits as the original.

    Args:
        detector (nn.Module): Detector in eval mode; not changed.

    Returns:
        nn.Module: A folded copy, or the detector itself if it cannot be
        folded.
    """
    folded = copy.deepcopy(detector)
    if not _fold_in_order_of_registration(folded):
        return detector
    with torch.no_grad():
        expected, logits = (
            adapter_for(model, 'teacher').probe()
            for model in (detector, folded))
    # TensorFloat-32 may round by 1e-3, but a wrong order changes the logits
    # much more. The logits of masked classes are -inf in any order.
    finite = expected[expected.isfinite()]
    tolerance = 1e-2 * finite.abs().max().item() if len(finite) else 0.0
    if torch.allclose(logits, expected, rtol=0, atol=tolerance):
        return folded
    return detector


def _fold_in_order_of_registration(detector: nn.Module) -> bool:
    """Fold in place, and return whether a BatchNorm was folded."""
    found = False
    # The levels of RTMDet share convolutions, but have separate BatchNorms
    # after them.
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
            # A subclass may compute its weights anew in each forward call.
            convolution = None
            if type(module) is nn.Conv2d and places[module] == 1:
                convolution = module
    detector.requires_grad_(False).eval()
    return found
