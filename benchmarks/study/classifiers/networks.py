"""Perceptrons that are trained many at once, each as if it were alone.

Networks of one width share their arithmetic (``torch.func.vmap``) and nothing
else: each has its weights, its order of samples and its targets. The sum of
their losses has no term in which two of them meet.

Shapes: M networks, N samples, C classes.
"""
import math
from typing import Dict, Sequence

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from .data import CROP_SIZE, NUM_CLASSES

BATCH_SIZE = 50
# Samples whose logits are computed at once.
SLICE = 1000


def make_network(width: int, seed: int) -> nn.Module:
    """A perceptron with two hidden layers.

    Args:
        width (int): Units of each hidden layer.
        seed (int): Random seed of the weights.

    Returns:
        nn.Module: From (N, 256) to logits (N, C).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(CROP_SIZE**2, width), nn.ReLU(), nn.Linear(width, width),
            nn.ReLU(), nn.Linear(width, NUM_CLASSES))


class Networks:
    """Networks of one width, trained side by side.

    Args:
        width (int): Units of each hidden layer.
        seeds (sequence[int]): Random seeds of weights and order of samples,
            shape (M,). Networks of the same seed start alike and see the
            same batches.
    """

    def __init__(self, width: int, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        networks = [make_network(width, seed) for seed in self.seeds]
        self._template = networks[0]
        self._weights, _ = stack_module_state(networks)
        self._forward = vmap(lambda weights, pixels: functional_call(
            self._template, weights, (pixels, )))

    def train(self, pixels: np.ndarray, targets: np.ndarray, epochs: int,
              learning_rate: float) -> 'Networks':
        """Minimise the cross entropy to the targets.

        With fixed targets its gradient is that of KL(target || network). The
        rate follows a cosine to 0; a last incomplete batch is left out.

        Args:
            pixels (ndarray): Samples, float32, shape (N, 256).
            targets (ndarray): Distributions by network, shape (M, N, C).
            epochs (int): Passes over the samples.
            learning_rate (float): Rate of AdamW at the start.

        Returns:
            Networks: Itself.
        """
        samples = torch.from_numpy(pixels)
        target_probs = torch.as_tensor(targets, dtype=samples.dtype)
        num_batches = len(pixels) // BATCH_SIZE
        num_steps = epochs * num_batches
        optimizer = torch.optim.AdamW(
            self._weights.values(),
            lr=learning_rate,
            weight_decay=0.0,
            foreach=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step:
            (1 + math.cos(math.pi * step / num_steps)) / 2)
        rows = torch.arange(len(self.seeds))[:, None]
        for epoch in range(epochs):
            order = self._order(epoch, len(pixels))
            for batch in range(num_batches):
                chosen = order[:, batch * BATCH_SIZE:(batch + 1) * BATCH_SIZE]
                logits = self._forward(self._weights, samples[chosen])
                # Summed over networks, so that each has its own gradient.
                loss = -(target_probs[rows, chosen] *
                         logits.log_softmax(dim=-1)).sum() / BATCH_SIZE
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
        return self

    def _order(self, epoch: int, num_samples: int) -> Tensor:
        """Order of the samples by network, shape (M, N)."""
        orders: Dict[int, np.ndarray] = {
            seed: np.random.default_rng((seed, epoch)).permutation(num_samples)
            for seed in set(self.seeds)
        }
        return torch.from_numpy(np.stack([orders[s] for s in self.seeds]))

    @torch.no_grad()
    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Logits of the same samples by all networks.

        Args:
            pixels (ndarray): Samples, float32, shape (N, 256).

        Returns:
            ndarray: Float64, shape (M, N, C).
        """
        parts = [
            self._forward(self._weights,
                          part.expand(len(self.seeds), *part.shape))
            for part in torch.from_numpy(pixels).split(SLICE)
        ]
        return torch.cat(parts, dim=1).double().numpy()
