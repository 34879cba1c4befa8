"""Peers of the benchmark do the same work, and the machine's limits are of the same products."""

import numpy as np
import pytest
import torch
from benchmark import limits
from benchmark.app import load_images
from benchmark.peers import OURS, PEERS
from benchmark.tasks import Task, initial_weights, mean_loss, products

from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP

OTHERS = [peer for peer in PEERS if peer != OURS]
# What libraries say of themselves while they are used as they are meant to be.
quiet = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def images(slice_config):
    return load_images(slice_config().dataset)


@pytest.fixture(scope="module")
def load(images, slice_settings):
    """`load(name)`: a peer that has the slice; skips if it is not installed."""
    loaded = {}

    def peer(name):
        if missing := PEERS[name].missing():
            pytest.skip(f"{PEERS[name].title} is not installed (pip install {' '.join(missing)})")
        if name not in loaded:
            loaded[name] = PEERS[name](images, slice_settings)
        return loaded[name]

    return peer


@quiet
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("peer", OTHERS)
def test_a_peer_does_the_same_work(load, peer, optimizer):
    """Of a full batch there is one order, so that losses agree to rounding.

    Adam divides by gradients: where one is about its epsilon, rounding decides on the step.
    """
    num_seeds = 2 if PEERS[peer].stacks else 1
    task = Task("mlp", 1000, optimizer, num_seeds, 1000)
    ours = load(OURS).train(task, [3, 4][:num_seeds])
    assert ours.seconds <= ours.job_seconds
    theirs = load(peer)
    theirs.prepare(task)
    trained = theirs.train(task, [3, 4][:num_seeds])
    assert trained.seconds > 0
    np.testing.assert_allclose(
        trained.losses, ours.losses, rtol=1e-3 if optimizer == "adam" else 1e-5
    )


@quiet
@pytest.mark.parametrize("peer", OTHERS)
def test_a_peer_takes_every_step_of_an_epoch(load, peer):
    """40 steps, the last with 10 examples; with a tenth fewer, losses were 4.7 % higher.

    Orders differ: over 20 of them, the losses' differences had a standard deviation of 0.6 %.
    """
    task = Task("mlp", 25, "momentum", 1, 985)
    ours = load(OURS).train(task, [5])
    theirs = load(peer)
    theirs.prepare(task)
    assert theirs.train(task, [5]).losses == pytest.approx(ours.losses, rel=0.025)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_the_plain_loop_trains_the_same_lenet(load, num_seeds):
    task = Task("lenet", 1000, "sgd", num_seeds, 1000)
    ours, theirs = (load(peer).train(task, [3, 4][:num_seeds]) for peer in (OURS, "torch"))
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=1e-5)


def test_weights_start_as_ours_do(slice_config):
    model = StackedMLP(slice_config().model, [7], default, (784,), 10, torch.device("cpu"))
    for layer, (weight, bias) in enumerate(initial_weights(7)):
        np.testing.assert_allclose(weight.T, model.weights[layer][0].detach(), atol=1e-7)
        np.testing.assert_allclose(bias, model.biases[layer][0].detach(), atol=1e-7)


def test_loss_is_the_mean_cross_entropy(load):
    peer, weights = load("torch"), initial_weights(0)
    x = torch.from_numpy(peer.pixels)
    for weight, bias in weights[:-1]:
        x = torch.relu(x @ torch.from_numpy(weight) + torch.from_numpy(bias))
    logits = x @ torch.from_numpy(weights[-1][0]) + torch.from_numpy(weights[-1][1])
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(peer.labels))
    assert mean_loss(weights, peer.pixels, peer.labels) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("library", limits.LIBRARIES)
def test_every_library_multiplies_all_products_of_a_step(library):
    if library not in limits.installed():
        pytest.skip(f"{library} is not installed")
    multiply, _ = limits.LIBRARIES[library]()
    rng = np.random.default_rng(0)
    for batch_size in (1, 3):
        for shape in products(batch_size):
            left, right = limits.operands(rng, *shape)
            np.testing.assert_allclose(multiply(left, right)(), left @ right, rtol=1e-5)
