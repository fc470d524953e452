"""Random numbers of a loss, apart from those of the training."""
import torch
import torch.nn as nn

# mt19937, the generator of a CPU, takes 32 bits of a seed.
_BITS = 2**32
# Odd, so that no two draws have the same seed; far from 1, so that the draws
# of a training are not those of one with the next seed.
_STRIDE = 0x9E3779B1


def generator_of_draw(seed: int, draw: int) -> torch.Generator:
    """A generator whose numbers depend on two numbers only.

    Args:
        seed (int): Seed of the training.
        draw (int): Number of draws before this one.

    Returns:
        torch.Generator: On the CPU.
    """
    return torch.Generator().manual_seed((seed + draw * _STRIDE) % _BITS)


class RandomStream(nn.Module):
    """A generator of random numbers for each draw.

    What a loss draws must not move the stream from which the student's
    samplers draw: with and without the loss the student trains on the same
    samples. A draw depends on the seed and the number of draws before it,
    both buffers: they are in the checkpoint, so that a resumed training draws
    what an uninterrupted one does. The seed is that of torch, which is the
    config's ``randomness.seed``, where the loss is built. Draws are made on
    the CPU, so that they are the same on each device.
    """

    seed: torch.Tensor
    draws: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('seed',
                             torch.tensor(torch.initial_seed() % _BITS))
        self.register_buffer('draws', torch.tensor(0))

    def generator(self) -> torch.Generator:
        """The generator of the next draw."""
        generator = generator_of_draw(int(self.seed), int(self.draws))
        self.draws += 1
        return generator
