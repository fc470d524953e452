"""A uniform sample of a stream, in memory for no more than itself."""
from typing import Callable, Dict, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError

# 32 MB of float64 per temporary array.
NUMBERS_PER_CHUNK = 2**22


class Reservoir:
    """Keeps at most so many samples of a stream, each with the same chance.

    Each sample of the stream has a random key, and the smallest keys stay. A
    key above the largest kept one is never drawn, only counted: of the
    thousand millions of pairs of a dense head almost none is touched.

    Args:
        max_samples (int): Samples to keep, >= 1.
        seed (int): Random seed of the choice.
        sample_name (str): Name of a sample in the plural, for a message.

    Attributes:
        num_seen (int): Samples of the stream so far.
    """

    def __init__(self, max_samples: int, seed: int, sample_name: str) -> None:
        self.max_samples = max_samples
        self.num_seen = 0
        self._sample_name = sample_name
        self._rng = np.random.default_rng(seed)
        self._keys = self._allocate(np.float64)
        self._num_kept = 0
        # Of the next samples only those with a smaller key can stay.
        self._threshold = 1.0
        self._columns: Dict[str, np.ndarray] = {}

    def add(self, count: int, take: Callable[[np.ndarray],
                                             Dict[str, np.ndarray]]) -> None:
        """Look at the next samples of the stream.

        Args:
            count (int): Number of samples.
            take (callable): Gives the columns, by name, of those samples
                whose positions in [0, count) it is given, increasing.
        """
        self.num_seen += count
        for begin in range(0, count, NUMBERS_PER_CHUNK):
            chosen, places = self._choose(
                min(NUMBERS_PER_CHUNK, count - begin))
            if len(chosen) == 0 and self._columns:
                continue
            for name, values in take(begin + chosen).items():
                if name not in self._columns:
                    self._columns[name] = self._allocate(
                        values.dtype, *values.shape[1:])
                self._columns[name][places] = values

    def columns(self) -> Dict[str, np.ndarray]:
        """What was kept, by name; in the stream's order if all was."""
        return {
            name: values[:self._num_kept]
            for name, values in self._columns.items()
        }

    def _choose(self, count: int) -> Tuple[np.ndarray, np.ndarray]:
        """Which of the next samples stay, and where."""
        num_small = count
        chosen = np.arange(count)
        if self._threshold < 1:
            num_small = self._rng.binomial(count, self._threshold)
            chosen = np.sort(self._rng.choice(count, num_small, replace=False))
        keys = self._threshold * self._rng.random(num_small)
        room = self.max_samples - self._num_kept
        if num_small <= room:
            places = self._num_kept + np.arange(num_small)
        else:
            every = np.concatenate([self._keys[:self._num_kept], keys])
            stays = np.zeros(len(every), bool)
            stays[np.argpartition(every, self.max_samples -
                                  1)[:self.max_samples]] = True
            freed = np.flatnonzero(~stays[:self._num_kept])
            enters = stays[self._num_kept:]
            places = np.concatenate(
                [freed, np.arange(self._num_kept, self.max_samples)])
            chosen, keys = chosen[enters], keys[enters]
        self._keys[places] = keys
        if num_small >= room:
            self._num_kept = self.max_samples
            self._threshold = self._keys.max()
        else:
            self._num_kept += num_small
        return chosen, places

    def _allocate(self, dtype: np.dtype, *columns: int) -> np.ndarray:
        try:
            return np.empty((self.max_samples, *columns), dtype)
        except (MemoryError, ValueError):  # the latter beyond all addresses
            raise InvalidValueError(
                f'`max_samples` must be a number of {self._sample_name} that '
                f'memory can hold, but got {self.max_samples}') from None
