"""Random numbers of a loss, independent of those of the training."""
import torch
import torch.nn as nn

# mt19937, the CPU generator, uses 32 bits of a seed.
_BITS = 2**32
# Odd, so that no two draws have the same seed; far from 1, so that a training
# with the next seed does not get the same draws.
_STRIDE = 0x9E3779B1


def generator_of_draw(seed: int, draw: int) -> torch.Generator:
    """Create a generator that depends only on the seed and the draw.

    Args:
        seed (int): Random seed of the training.
        draw (int): Number of draws before this one.

    Returns:
        torch.Generator: Generator on the CPU.
    """
    return torch.Generator().manual_seed((seed + draw * _STRIDE) % _BITS)


class RandomStream(nn.Module):
    """Source of a new random generator for each draw.

    The draws of a loss must not change the random stream of the student's
    samplers: with and without the loss the student trains on the same
    samples. A draw depends on the seed and on the number of draws before it.
    Both are buffers in the checkpoint, so that a resumed training gets the
    same draws as an uninterrupted one. The seed is torch's initial seed when
    the loss is built, which is ``randomness.seed`` of the config. The
    generators are on the CPU, so that the draws are the same on each device.
    """

    seed: torch.Tensor
    draws: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('seed',
                             torch.tensor(torch.initial_seed() % _BITS))
        self.register_buffer('draws', torch.tensor(0))

    def generator(self) -> torch.Generator:
        """Return the generator of the next draw."""
        generator = generator_of_draw(int(self.seed), int(self.draws))
        self.draws += 1
        return generator
