"""Peers of the benchmark do the same work, in processes that flush subnormal numbers."""

from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch
from benchmark.app import load_images
from benchmark.peers import OURS, PEERS
from benchmark.tasks import Task, initial_weights, mean_loss
from benchmark.workers import Worker

from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP

OTHERS = [peer for peer in PEERS if peer != OURS]
# What libraries say of themselves while they are used as they are meant to be.
quiet = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def load(slice_config, slice_settings, tmp_path_factory):
    """`load(name)`: a peer that has the slice; skips if it is not installed."""
    folder, loaded = tmp_path_factory.mktemp("peers"), {}
    images = load_images(slice_config().dataset, folder / "standardised.npz")

    def peer(name):
        if missing := PEERS[name].missing():
            pytest.skip(f"{PEERS[name].title} is not installed (pip install {' '.join(missing)})")
        if name not in loaded:
            loaded[name] = PEERS[name](images, slice_settings, folder / "log")
        return loaded[name]

    return peer


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch):
    """torch.compile takes a quarter of a minute; what it compiles is what runs here."""
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)


@quiet
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("peer", OTHERS)
def test_a_peer_does_the_same_work(load, peer, optimizer):
    """Of a full batch there is one order, so that losses agree to rounding.

    Adam divides by gradients: where one is about its epsilon, rounding decides on the step.
    """
    num_seeds = 2 if 2 in PEERS[peer].num_seeds else 1
    task = Task("mlp", 1000, optimizer, num_seeds, 1000)
    ours = load(OURS).train(task, [3, 4][:num_seeds])
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


@pytest.mark.parametrize("network", ["lenet", "standardised", "512-256"])
@pytest.mark.parametrize("peer", ["jax", "torch"])
def test_other_networks_are_the_same_too(load, peer, network):
    task = Task(network, 400, "sgd", 2, 400)
    ours = load(OURS).train(task, [3, 4])
    theirs = load(peer)
    theirs.prepare(task)
    np.testing.assert_allclose(theirs.train(task, [3, 4]).losses, ours.losses, rtol=1e-5)


def test_weights_start_as_ours_do(slice_config):
    model = StackedMLP(slice_config().model, [7], default, (784,), 10, torch.device("cpu"))
    for layer, (weight, bias) in enumerate(initial_weights("mlp", 7)):
        np.testing.assert_allclose(weight, model.weights[layer][0].detach(), atol=1e-7)
        np.testing.assert_allclose(bias, model.biases[layer][0].detach(), atol=1e-7)


def test_loss_is_the_mean_cross_entropy(load):
    inputs, labels = load("torch").data(Task("mlp", 1000, "sgd", 1, 1000))
    weights = initial_weights("mlp", 0)
    x = torch.from_numpy(inputs)
    for index, (weight, bias) in enumerate(weights):
        x = torch.nn.functional.linear(
            x.relu() if index else x, *map(torch.from_numpy, (weight, bias))
        )
    expected = torch.nn.functional.cross_entropy(x, torch.from_numpy(labels)).item()
    assert mean_loss(weights, inputs, labels) == pytest.approx(expected, rel=1e-6)


class Halves:
    """Halves the smallest normal number, by a library."""

    def numpy(self):
        return float((np.full(10_000, 2.0**-126, np.float32) * np.float32(0.5)).max())

    def torch(self):
        return (torch.full((1000, 1000), 2.0**-126) * 0.5).max().item()

    def jax(self):
        jax = pytest.importorskip("jax")
        return float(jax.jit(lambda x: (x * 0.5).max())(jax.numpy.full((999,), 2.0**-126)))


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_workers_flush_subnormal_numbers(library, tmp_path):
    if library == "jax":
        pytest.importorskip("jax")
    assert Halves().numpy() > 0  # as here they are not
    worker = Worker(tmp_path / "log", Halves)
    assert worker.begin(library).result()[0] == 0
    worker.close()


def test_workers_tell_why_they_failed(tmp_path):
    worker = Worker(tmp_path / "log", list, "abc")
    with pytest.raises(IndexError, match="pop index out of range"):
        worker.begin("pop", 7).result()
    assert worker.begin("pop", 0).result()[0] == "a"  # it goes on
    worker.close()
    with pytest.raises((TypeError, BrokenProcessPool), match="not iterable"):
        Worker(tmp_path / "log", list, 3)
