"""Networks that are trained together, as if each were alone."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax

from benchmarks.study.classifiers.networks import (BATCH_SIZE, Networks,
                                                   make_network)

WIDTH, EPOCHS, RATE = 8, 4, 4e-3
NUM_SAMPLES = 2 * BATCH_SIZE + 7


@pytest.fixture(scope='module')
def pixels():
    rng = np.random.default_rng(9000)
    return rng.normal(size=(NUM_SAMPLES, 256)).astype(np.float32)


def targets(num_networks, seed=9001):
    rng = np.random.default_rng(seed)
    return softmax(
        3 * rng.normal(size=(num_networks, NUM_SAMPLES, 10)), axis=2)


def trained(pixels, seeds, wanted):
    return Networks(WIDTH, seeds).train(pixels, wanted, EPOCHS,
                                        RATE).logits(pixels)


def trained_alone(pixels, seed, wanted):
    """The same training of one network in plain torch, by KL divergence."""
    network = make_network(WIDTH, seed)
    samples, wanted = torch.from_numpy(pixels), torch.tensor(wanted).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    steps = EPOCHS * 2
    step = 0
    for epoch in range(EPOCHS):
        order = np.random.default_rng((seed, epoch)).permutation(len(pixels))
        for batch in range(2):
            chosen = order[batch * BATCH_SIZE:(batch + 1) * BATCH_SIZE]
            for group in optimizer.param_groups:
                group['lr'] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
            loss = F.kl_div(
                network(samples[chosen]).log_softmax(1),
                wanted[chosen],
                reduction='batchmean')
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    with torch.no_grad():
        return network(samples).numpy()


def test_networks_trained_together_are_those_trained_alone(pixels):
    seeds, wanted = (9301, 9302, 9301), targets(3)
    together = trained(pixels, seeds, wanted)
    for place, seed in enumerate(seeds):
        alone = trained_alone(pixels, seed, wanted[place])
        np.testing.assert_allclose(together[place], alone, atol=1e-4)
        # It has moved by far more than that.
        start = Networks(WIDTH, [seed]).logits(pixels)[0]
        assert np.abs(alone - start).max() > 0.1


def test_a_network_does_not_depend_on_its_company(pixels):
    wanted = targets(3)
    together = trained(pixels, (9301, 9302, 9303), wanted)
    alone = trained(pixels, (9302, ), wanted[1:2])
    np.testing.assert_allclose(together[1], alone[0], atol=1e-4)


def test_the_same_seed_starts_alike_and_another_does_not(pixels):
    start = Networks(WIDTH, (9301, 9301, 9302)).logits(pixels)
    assert (start[0] == start[1]).all()
    assert not np.allclose(start[0], start[2])
    wanted = targets(1)[[0, 0, 0]]
    end = trained(pixels, (9301, 9301, 9302), wanted)
    assert (end[0] == end[1]).all()
    assert not np.allclose(end[0], end[2])


def test_training_is_deterministic_and_leaves_the_global_stream_alone(pixels):
    wanted = targets(2)
    torch.manual_seed(1)
    first = trained(pixels, (9301, 9302), wanted)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert drawn == torch.rand(1)
    torch.manual_seed(2)
    assert (trained(pixels, (9301, 9302), wanted) == first).all()


def test_long_training_reaches_the_targets(pixels):
    few, wanted = pixels[:BATCH_SIZE], targets(2)[:, :BATCH_SIZE]
    networks = Networks(64, (9301, 9302)).train(few, wanted, 150, 1e-2)
    probs = softmax(networks.logits(few), axis=2)
    assert np.abs(probs - wanted).max() < 0.02
