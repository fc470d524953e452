"""Uniform random sample of a stream, in memory of the sample's size."""
from typing import Callable, Dict, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError

# 32 MB of float64 per temporary array.
NUMBERS_PER_CHUNK = 2**22


class Reservoir:
    """Uniform random sample of a stream (reservoir sampling).

    Each sample of the stream has a random key, and the samples with the
    smallest keys are kept. Keys above the largest kept key are not drawn one
    by one; only their number is drawn. Therefore almost none of the billions
    of pairs of a dense head is touched.

    Args:
        max_samples (int): Maximum number of samples, >= 1; larger streams are
            sampled uniformly.
        seed (int): Random seed of the choice.
        sample_name (str): Name of the samples, in the plural, for messages.

    Attributes:
        num_seen (int): Number of samples of the stream that were added.
    """

    def __init__(self, max_samples: int, seed: int, sample_name: str) -> None:
        self.max_samples = max_samples
        self.num_seen = 0
        self._sample_name = sample_name
        self._rng = np.random.default_rng(seed)
        self._keys = self._allocate(np.float64)
        self._num_kept = 0
        # Only samples with a smaller key than this can still be kept.
        self._threshold = 1.0
        self._columns: Dict[str, np.ndarray] = {}

    def add(self, count: int, take: Callable[[np.ndarray],
                                             Dict[str, np.ndarray]]) -> None:
        """Add the next samples of the stream.

        Args:
            count (int): Number of samples.
            take (Callable): Function from positions in [0, count), in
                increasing order, to the columns of these samples by name.
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
        """Return the columns of the kept samples by name.

        The samples are in the order of the stream if all of them were kept.
        """
        return {
            name: values[:self._num_kept]
            for name, values in self._columns.items()
        }

    def _choose(self, count: int) -> Tuple[np.ndarray, np.ndarray]:
        """Choose the next samples to keep, and their rows."""
        num_small = count
        chosen = np.arange(count)
        if self._threshold < 1:
            num_small = self._rng.binomial(count, self._threshold)
            chosen = np.sort(self._rng.choice(count, num_small, replace=False))
        keys = self._threshold * self._rng.random(num_small)
        num_free = self.max_samples - self._num_kept
        if num_small <= num_free:
            places = self._num_kept + np.arange(num_small)
        else:
            all_keys = np.concatenate([self._keys[:self._num_kept], keys])
            is_kept = np.zeros(len(all_keys), bool)
            is_kept[np.argpartition(all_keys, self.max_samples -
                                    1)[:self.max_samples]] = True
            freed = np.flatnonzero(~is_kept[:self._num_kept])
            is_new_kept = is_kept[self._num_kept:]
            places = np.concatenate(
                [freed, np.arange(self._num_kept, self.max_samples)])
            chosen, keys = chosen[is_new_kept], keys[is_new_kept]
        self._keys[places] = keys
        if num_small >= num_free:
            self._num_kept = self.max_samples
            self._threshold = self._keys.max()
        else:
            self._num_kept += num_small
        return chosen, places

    def _allocate(self, dtype: np.dtype, *columns: int) -> np.ndarray:
        try:
            return np.empty((self.max_samples, *columns), dtype)
        except (MemoryError, ValueError):  # numpy raises both
            raise InvalidValueError(
                f'`max_samples` must be a number of {self._sample_name} that '
                f'memory can hold, but got {self.max_samples}') from None
