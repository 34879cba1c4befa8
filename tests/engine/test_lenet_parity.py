"""LeNet as a stack agrees with the loop that a plain PyTorch script has, seed by seed.

The plain loop takes nothing from optsweep but the images and the order of the examples.
"""

import functools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from test_parity import TIMES_OWN_ROUNDING, PlainLAMB, own_rounding
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adam

from optsweep.config.schema import ModuleConfig
from optsweep.data.tensors import Dataset, Split, epoch_orders, load_dataset
from optsweep.engine.reference import ReferenceEngine
from optsweep.models import build_stack, stack
from optsweep.models.initializers import default
from optsweep.optim.layerwise import LAMB
from optsweep.optim.resolved import ResolvedOptimizer

CPU = torch.device("cpu")
RELATIVE_ERROR = {torch.float32: 1e-5, torch.float64: 1e-10}
# 22 steps, of which the last of each epoch has 20 images.
NUM_TRAIN, BATCH_SIZE, EPOCHS = 500, 48, 2

# Our class and its settings, and the plain script's optimizer.
OPTIMIZERS: dict[str, tuple[type, dict, Callable]] = {
    "sgd": (SGD, {"lr": 0.1}, partial(SGD, lr=0.1)),
    "momentum": (
        SGD,
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-3},
        partial(SGD, lr=0.01, momentum=0.9, weight_decay=1e-3),
    ),
    "adam": (Adam, {"lr": 1e-3}, partial(Adam, lr=1e-3)),
    "lamb": (
        LAMB,
        {"lr": 5e-3, "weight_decay": 0.1},
        partial(PlainLAMB, lr=5e-3, weight_decay=0.1),
    ),
}


@pytest.fixture(scope="module", params=RELATIVE_ERROR, ids=str)
def dataset(request, slice_config) -> Dataset:
    config = slice_config(f"dataset.train_size={NUM_TRAIN}").dataset
    found = load_dataset(config, CPU, request.param)

    def of_images(split: Split) -> Split:
        return Split(split.images.view(-1, 1, 28, 28), split.labels)

    return Dataset(of_images(found.train), None, of_images(found.test), found.num_classes)


@functools.cache
def train_plainly(optimizer_name: str, seed: int, dataset: Dataset):
    """Parameters, training losses of the epochs, and the last test loss."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            *[nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Flatten(), nn.Linear(400, 120), nn.ReLU()],
            *[nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)],
        )
    images, labels = dataset.train.images, dataset.train.labels
    net = net.to(images.dtype)
    optimizer = OPTIMIZERS[optimizer_name][-1](net.parameters())
    losses = []
    for epoch in range(1, EPOCHS + 1):
        loss_sum = 0.0
        for batch in epoch_orders([seed], epoch, len(labels), CPU)[0].split(BATCH_SIZE):
            loss = functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
        losses.append(loss_sum / len(labels))
    with torch.no_grad():
        test_loss = functional.cross_entropy(net(dataset.test.images), dataset.test.labels)
    return list(net.parameters()), losses, test_loss.item()


@functools.cache
def as_float64(dataset: Dataset) -> Dataset:
    train, test = (
        Split(part.images.double(), part.labels) for part in (dataset.train, dataset.test)
    )
    return Dataset(train, None, test, dataset.num_classes)


def assert_as_plain_loops(dataset: Dataset, optimizer: str, seeds: range) -> None:
    target, settings, _ = OPTIMIZERS[optimizer]
    dtype = dataset.train.images.dtype
    config = ModuleConfig("optsweep.models.lenet.LeNet")
    model = build_stack(config, default, seeds, (1, 28, 28), 10, CPU, dtype)
    resolved = ResolvedOptimizer(target, settings, True, settings["lr"])
    built = resolved.build(model.named_parameters())
    engine = ReferenceEngine(model, built, dataset.train, BATCH_SIZE)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        orders = epoch_orders(seeds, epoch, len(dataset.train), CPU)
        losses.append(engine.train_epoch(orders, np.array([settings["lr"]])).loss)
    test_losses = engine.evaluate(dataset.test).loss
    for index, seed in enumerate(seeds):
        parameters, plain_losses, plain_test_loss = train_plainly(optimizer, seed, dataset)
        tolerance = RELATIVE_ERROR[dtype]
        if dtype == torch.float32:
            exact, *_ = train_plainly(optimizer, seed, as_float64(dataset))
            tolerance = max(tolerance, TIMES_OWN_ROUNDING * own_rounding(parameters, exact))
        for (name, found), expected in zip(model.named_parameters(), parameters, strict=True):
            difference = (found[index] - expected).norm() / expected.norm()
            assert difference < tolerance, (name, seed, difference)
        assert [loss[index] for loss in losses] == pytest.approx(plain_losses, rel=tolerance)
        assert test_losses[index] == pytest.approx(plain_test_loss, rel=tolerance)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stack_trains_as_a_plain_loop(dataset, optimizer, num_seeds):
    assert_as_plain_loops(dataset, optimizer, range(4, 4 + num_seeds))


@pytest.mark.parametrize("dataset", [torch.float64], indirect=True)
def test_seeds_at_once_train_as_a_plain_loop(dataset, monkeypatch):
    """As on a GPU: a grouped convolution for all seeds, which rounds otherwise than theirs."""
    monkeypatch.setattr(stack, "_why_slower", lambda network, device: "")
    assert_as_plain_loops(dataset, "momentum", range(4, 6))
