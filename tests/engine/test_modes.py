"""Optimizers that tell training from evaluation are scored as a plain script scores them.

A schedule-free optimizer takes its gradients at one point and is scored at another, the average;
`optimizer.train()` and `optimizer.eval()` move the weights from one to the other. The plain loop
takes nothing from optsweep but the images and the order of the examples.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from pytorch_optimizer import ScheduleFreeAdamW, ScheduleFreeSGD
from torch import nn
from torch.nn import functional

from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Dataset, epoch_orders, load_dataset
from optsweep.engine.reference import ReferenceEngine
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.optim import resolved
from optsweep.optim.resolved import ResolvedOptimizer
from optsweep.optim.stacks import SeedwiseOptimizer
from optsweep.optim.states import is_restorable

CPU = torch.device("cpu")
NUM_TRAIN, BATCH_SIZE, EPOCHS = 500, 48, 3


class Strict(ScheduleFreeSGD):
    """Begins in evaluation and takes no step there, as those of the package schedulefree."""

    def __init__(self, params, lr=1.0, momentum=0.9):
        super().__init__(params, lr=lr, momentum=momentum)
        self.eval()

    def step(self, closure=None):
        if not self.param_groups[0]["train_mode"]:
            raise RuntimeError("not in train mode")
        return super().step(closure)


OPTIMIZERS: dict[str, tuple[type, dict]] = {
    "sgd": (ScheduleFreeSGD, {"lr": 0.5, "weight_decay": 1e-3}),
    "adamw": (ScheduleFreeAdamW, {"lr": 0.01}),
    "strict": (Strict, {"lr": 0.5, "momentum": 0.8}),
}


@pytest.fixture(scope="module")
def dataset(slice_config) -> Dataset:
    config = slice_config(f"dataset.train_size={NUM_TRAIN}").dataset
    return load_dataset(config, CPU, torch.float64)


def train_plainly(make: Callable, seed: int, dataset: Dataset) -> list[tuple[float, float]]:
    """After each epoch the mean loss of its batches, and the loss on the test images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)).double()
    optimizer = make(net.parameters())
    images, labels = dataset.train.images.flatten(1), dataset.train.labels
    losses = []
    for epoch in range(1, EPOCHS + 1):
        optimizer.train()
        loss_sum = 0.0
        for batch in epoch_orders([seed], epoch, len(labels), CPU)[0].split(BATCH_SIZE):
            loss = functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
        optimizer.eval()
        with torch.no_grad():
            test = functional.cross_entropy(
                net(dataset.test.images.flatten(1)), dataset.test.labels
            )
        losses.append((loss_sum / len(labels), test.item()))
    return losses


@pytest.mark.parametrize("apart", [False, True], ids=["stacked", "seed by seed"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scores_are_those_of_a_plain_loop(dataset, name, apart, monkeypatch):
    if apart:
        monkeypatch.setattr(resolved, "is_stackable", lambda factory, axes: False)
    target, settings = OPTIMIZERS[name]
    seeds = range(3, 5)
    model = build_stack(MLPConfig((20,)), default, seeds, (1, 28, 28), 10, CPU, torch.float64)
    optimizer = ResolvedOptimizer(target, settings, True, settings["lr"])
    built = optimizer.build(model.named_parameters())
    assert isinstance(built, SeedwiseOptimizer) is apart
    engine = ReferenceEngine(model, built, dataset.train, BATCH_SIZE)
    engine.evaluate(dataset.test)  # of the untrained network, as every run begins
    found = []
    for epoch in range(1, EPOCHS + 1):
        orders = epoch_orders(seeds, epoch, NUM_TRAIN, CPU)
        train = engine.train_epoch(orders, np.array([settings["lr"]])).loss
        for _ in range(2):  # a validation split, and then the test images
            test = engine.evaluate(dataset.test).loss
        found.append((train, test))
    for index, seed in enumerate(seeds):
        expected = train_plainly(partial(target, **settings), seed, dataset)
        for (train, test), (plain_train, plain_test) in zip(found, expected, strict=True):
            assert train[index] == pytest.approx(plain_train, rel=1e-10)
            assert test[index] == pytest.approx(plain_test, rel=1e-10)
    weights = [parameter.detach().clone() for _, parameter in model.named_parameters()]
    built.train()
    moved = [parameter.detach() for _, parameter in model.named_parameters()]
    assert not torch.allclose(weights[0], moved[0])  # the modes do differ


class Tires(torch.optim.SGD):
    def step(self, closure=None):
        raise ArithmeticError("it is tired")


def test_an_optimizer_that_refuses_a_step_has_no_state_to_go_on_from():
    assert not is_restorable(ResolvedOptimizer(Tires, {"lr": 0.1}, True, 0.1).build)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_killed_cell_can_go_on_with_them(name):
    target, settings = OPTIMIZERS[name]
    assert is_restorable(ResolvedOptimizer(target, settings, True, settings["lr"]).build)
