"""Peers of the benchmark do the same work, in processes that flush subnormal numbers."""

import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from benchmark import peers, rounds
from benchmark.peers import OURS, PEERS
from benchmark.rounds import initial_weights
from benchmark.tasks import Task

from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP

# What libraries say of themselves while they are used as they are meant to be.
quiet = pytest.mark.filterwarnings("ignore")


def pairs(*tasks):
    """Every task with every peer that takes it."""
    every = [(peer, task) for task in tasks for peer in PEERS if peer != OURS]
    return [(peer, task) for peer, task in every if PEERS[peer].takes(task)]


@pytest.fixture
def train(slice_settings):
    """`train(name, task, *seeds) -> Outcome`, here; skips if the peer is not installed."""

    def trained(name, task, *seeds):
        if not find_spec(PEERS[name].package):
            pytest.skip(f"{name} is not installed (pip install {PEERS[name].package})")
        starts = [(seed, initial_weights(task.network, seed)) for seed in seeds]
        part = task._replace(num_seeds=1) if PEERS[name].is_single(task) else task
        return peers.train(name, part, tuple(slice_settings), starts)

    yield trained
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch):
    """torch.compile takes a quarter of a minute; what it compiles is what runs here."""
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)


FULL = [Task("mlp", 1000, name, n, 1000) for name in ("sgd", "momentum", "adam") for n in (1, 2)]
OTHERS = [Task(name, 400, "sgd", 2, 400) for name in ("lenet", "standardised", "512-256")]


@quiet
@pytest.mark.parametrize(("peer", "task"), pairs(*FULL, *OTHERS))
def test_a_peer_does_the_same_work(train, peer, task):
    """Of a full batch there is one order, so that losses agree to rounding.

    Adam divides by gradients: where one is about its epsilon, rounding decides on the step.
    """
    seeds = [3, 4][: task.num_seeds]
    ours, theirs = train(OURS, task, *seeds), train(peer, task, *seeds)
    assert theirs.seconds > 0
    assert len(theirs.losses) == task.num_seeds
    tolerance = 1e-3 if task.optimizer == "adam" else 1e-5
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=tolerance)


@quiet
@pytest.mark.parametrize(("peer", "task"), pairs(Task("mlp", 25, "sgd", 1, 985)))
def test_a_peer_takes_every_step_of_an_epoch(train, peer, task):
    """40 steps, the last with 10 examples; with a tenth fewer, losses were 7 % higher.

    Orders differ, by which losses' differences had a standard deviation of 5 %: 1 % for 20 seeds.
    """
    ours, theirs = (np.mean(train(name, task, *range(20)).losses) for name in (OURS, peer))
    assert theirs == pytest.approx(ours, rel=0.035)


def test_weights_start_as_ours_do(slice_config):
    model = StackedMLP(slice_config().model, [7], default, (784,), 10, torch.device("cpu"))
    for layer, (weight, bias) in enumerate(initial_weights("mlp", 7)):
        np.testing.assert_array_equal(weight.T, model.weights[layer][0].detach())
        np.testing.assert_array_equal(bias, model.biases[layer][0].detach())


def halved(name, settings):
    """Half the smallest normal number, by the library of a peer that has trained."""
    task = Task("mlp", 1000, "sgd", 1, 1000)
    peers.train(name, task, settings, [(3, initial_weights("mlp", 3))])
    if name == "torch":
        return (torch.full((1000, 1000), 2.0**-126) * 0.5).max().item()
    import jax

    return float(jax.jit(lambda x: (x * 0.5).max())(jax.numpy.full((999,), 2.0**-126)))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_workers_flush_subnormal_numbers(name, slice_settings):
    if not find_spec(PEERS[name].package):
        pytest.skip(f"{name} is not installed")
    assert (torch.full((1000,), 2.0**-126) * 0.5).max() > 0  # as here they are not
    (worker,) = rounds._team(name)
    with worker:
        assert worker.submit(halved, name, tuple(slice_settings)).result() == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process can be pinned here")
def test_pinned_workers_stay_on_a_core_each():
    found = []
    for worker in rounds._team("jax-pinned"):
        with worker:
            found.append(worker.submit(os.sched_getaffinity, 0).result())
    assert found == [{core} for core in sorted(os.sched_getaffinity(0))]
