"""Each sample of a stream has the same chance to stay."""
import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.teachers import reservoir as reservoir_module
from tcal_det.teachers.reservoir import Reservoir


def fill(num_samples, max_samples, seed=0, batch=7):
    """What stays of 0, 1, ..., each with its negative beside it."""
    reservoir = Reservoir(max_samples, seed, 'RoIs')
    rows = np.arange(num_samples)
    for begin in range(0, num_samples, batch):
        part = rows[begin:begin + batch]

        def take(chosen, part=part):
            return dict(
                number=part[chosen],
                pair=np.stack([part[chosen], -part[chosen]], axis=1))

        reservoir.add(len(part), take)
    return reservoir


def test_keeps_all_in_order_if_there_is_room():
    columns = fill(20, 50).columns()
    assert (columns['number'] == np.arange(20)).all()
    assert columns['pair'].shape == (20, 2)


def test_exactly_full():
    assert (fill(21, 21).columns()['number'] == np.arange(21)).all()


def test_rows_stay_together():
    reservoir = fill(500, 50)
    columns = reservoir.columns()
    assert reservoir.num_seen == 500
    assert len(set(columns['number'])) == 50
    assert (columns['pair'][:, 0] == columns['number']).all()
    assert (columns['pair'][:, 1] == -columns['number']).all()


@pytest.mark.parametrize('batch, chunk', [(1, 2**22), (40, 2**22),
                                          (100, 2**22), (100, 9)])
def test_each_sample_has_the_same_chance(batch, chunk, monkeypatch):
    monkeypatch.setattr(reservoir_module, 'NUMBERS_PER_CHUNK', chunk)
    times_kept = np.zeros(100)
    for seed in range(300):
        times_kept[fill(100, 10, seed, batch).columns()['number']] += 1
    # Binomial with mean 30, standard deviation 5.2.
    assert times_kept.sum() == 3000
    assert np.abs(times_kept - 30).max() < 5 * 5.2
    for end in (slice(10), slice(-10, None)):
        assert abs(times_kept[end].mean() - 30) < 4 * 5.2 / 10**0.5


def test_a_long_stream_is_hardly_touched():
    """A dense head has 10^8 pairs in ten images."""
    touched = []
    reservoir = Reservoir(100, 0, 'pairs')

    def take(chosen):
        touched.append(len(chosen))
        return dict(number=chosen)

    for _ in range(100):
        reservoir.add(10**6, take)
    assert reservoir.num_seen == 10**8
    # The first image, and about max_samples / n of the n-th.
    assert sum(touched[1:]) < 2 * 100 * np.log(100)


def test_seeded():
    first, again, other = (
        fill(500, 50, seed).columns()['number'] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize('max_samples', [10**15, 10**30])
def test_more_than_memory(max_samples):
    with pytest.raises(
            InvalidValueError, match='`max_samples` must be.*of pairs that'):
        Reservoir(max_samples, 0,
                  'pairs').add(1, lambda chosen: dict(number=chosen))
