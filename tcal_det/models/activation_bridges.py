"""Exact conversion between softmax logits and sigmoid logits.

Shapes: S samples; K classes; a softmax has K + 1 columns, background last.
"""
import torch
from torch import Tensor

from .logits import at_least_float32


def one_vs_rest_logits(logits: Tensor) -> Tensor:
    r"""Convert softmax logits to sigmoid logits with the same probabilities.

    .. math:: z_c - \log \sum_{j \ne c} \exp z_j

    Args:
        logits (Tensor): Logits of a softmax, shape (S, C), C >= 2.

    Returns:
        Tensor: Logits whose sigmoid is the softmax probability of each
        column, at least float32, shape (S, C).

    Example:
        >>> logits = torch.tensor([[2., 0., 1.]])
        >>> print([round(p, 4) for p in logits.softmax(1)[0].tolist()])
        [0.6652, 0.09, 0.2447]
        >>> print([round(p, 4)
        ...        for p in one_vs_rest_logits(logits).sigmoid()[0].tolist()])
        [0.6652, 0.09, 0.2447]
    """
    logits = at_least_float32(logits)
    log_prob = logits.log_softmax(dim=1)
    # 1 - p loses no digits where p <= 1/2. For the largest column, where p
    # may be above 1/2, the probabilities of the other columns are summed.
    log_others = torch.log1p(-log_prob.exp())
    top = logits.argmax(dim=1, keepdim=True)
    without_top = log_prob.scatter(1, top, -torch.inf)
    log_others = log_others.scatter(1, top,
                                    without_top.logsumexp(dim=1, keepdim=True))
    return log_prob - log_others


def with_background(logits: Tensor) -> Tensor:
    r"""Convert sigmoid logits to softmax logits by a background column of 0.

    :math:`\mathrm{softmax}([z, 0])` is the distribution of independent
    Bernoulli variables with :math:`p_c = \sigma(z_c)`, given that at most one
    of them is 1.

    Args:
        logits (Tensor): Logits of K sigmoids, shape (S, K).

    Returns:
        Tensor: Softmax logits with background last, shape (S, K + 1).

    Example:
        >>> with_background(torch.tensor([[2., -1.]])).tolist()
        [[2.0, -1.0, 0.0]]
    """
    return torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)
