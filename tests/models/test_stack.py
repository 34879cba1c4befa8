"""Any module as a stack: each seed is computed as a plain loop of that seed alone computes it."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optsweep.config.checks import InputError
from optsweep.config.schema import MLPConfig, ModuleConfig
from optsweep.config.targets import allow_targets
from optsweep.data.tensors import Split, epoch_orders
from optsweep.engine.reference import ReferenceEngine
from optsweep.models import build_stack, stack
from optsweep.models.initializers import default, kaiming
from optsweep.optim.resolved import ResolvedOptimizer

CPU = torch.device("cpu")
SEEDS = range(5, 8)
NUM_CLASSES = 4
NUM_EXAMPLES, BATCH_SIZE = 20, 8  # the last batch has 4
SHAPE = (2, 6, 6)


class Linears(nn.Sequential):
    """What vmap can compute at once, with statistics of each seed's own."""

    def __init__(self, in_features, num_classes):
        layers = [nn.Flatten(), nn.Linear(in_features, 9), nn.BatchNorm1d(9), nn.ReLU()]
        super().__init__(*layers, nn.Linear(9, num_classes))


class Convolutions(nn.Sequential):
    """Seed by seed on a CPU."""

    def __init__(self, in_channels, num_classes):
        body = [nn.Conv2d(in_channels, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten()]
        super().__init__(*body, nn.LazyLinear(num_classes))
        self[-1] = nn.Linear(80, num_classes)


class Averages(Linears):
    """A cumulative average of the statistics: vmap cannot read the number of batches."""

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self[2] = nn.BatchNorm1d(9, momentum=None)


class Drops(nn.Sequential):
    """Draws random numbers in training."""

    def __init__(self, num_inputs, num_classes):
        layers = [nn.Flatten(), nn.Linear(num_inputs, 20), nn.Dropout(0.4), nn.ReLU()]
        super().__init__(*layers, nn.Linear(20, num_classes))


class Recurrent(nn.Module):
    """Keeps lists of its weights, and a frozen parameter."""

    def __init__(self, num_classes):
        super().__init__()
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.linear = nn.Linear(5, num_classes)
        self.frozen = nn.Parameter(torch.rand(num_classes), requires_grad=False)

    def forward(self, images):
        return self.linear(self.lstm(images.flatten(1, 2))[0][:, -1]) + self.frozen


@pytest.fixture(autouse=True)
def _allowed():
    allow_targets([__name__])
    yield
    allow_targets([])


@pytest.fixture
def train() -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(NUM_EXAMPLES, *SHAPE, generator=generator, dtype=torch.float64)
    return Split(images, torch.randint(NUM_CLASSES, (NUM_EXAMPLES,), generator=generator))


def stack_of(network, seeds=SEEDS, initializer=default, shape=SHAPE):
    config = network
    if not isinstance(network, MLPConfig):
        config = ModuleConfig(f"{__name__}.{network.__name__}")
    return build_stack(config, initializer, seeds, shape, NUM_CLASSES, CPU, torch.float64)


def trained(network, seeds, train, epochs=2):
    """A stack, and its scores on the training examples before and after every epoch."""
    model = stack_of(network, seeds)
    optimizer = ResolvedOptimizer(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, True, 0.1)
    built = optimizer.build(model.named_parameters())
    engine = ReferenceEngine(model, built, train, BATCH_SIZE)
    scores = [engine.evaluate(train)]
    for epoch in range(epochs):
        orders = epoch_orders(seeds, epoch, NUM_EXAMPLES, CPU)
        scores += [engine.train_epoch(orders, np.array([0.1])), engine.evaluate(train)]
    return model, scores


def trained_plainly(network, seed, train, epochs=2):
    """The same of one seed, by a plain loop whose script begins with `manual_seed`."""
    arguments = {"in_features": 72, "num_inputs": 72, "in_channels": 2, "num_classes": NUM_CLASSES}
    names = network.__init__.__code__.co_varnames
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = network(**{key: value for key, value in arguments.items() if key in names}).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def evaluated():
            net.eval()
            with torch.no_grad():
                return functional.cross_entropy(net(train.images), train.labels).item()

        losses = [evaluated()]
        for epoch in range(epochs):
            net.train()
            loss_sum = 0.0
            order = epoch_orders([seed], epoch, NUM_EXAMPLES, CPU)[0]
            for batch in order.split(BATCH_SIZE):
                loss = functional.cross_entropy(net(train.images[batch]), train.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(batch)
            losses += [loss_sum / NUM_EXAMPLES, evaluated()]
    return net, losses


NOTES = {
    Linears: "",
    Convolutions: "seed by seed: convolutions of several seeds at once are slower on the CPU",
    Averages: "seed by seed: torch.func.vmap: ",  # and what it says of .item()
    Drops: "seed by seed: each draws random numbers of its own",
    Recurrent: "seed by seed: torch.func.vmap: ",
}


@pytest.mark.parametrize("network", NOTES, ids=lambda network: network.__name__)
def test_a_stack_trains_as_each_seed_alone(network, train):
    model, scores = trained(network, SEEDS, train)
    assert model.note.startswith(NOTES[network])
    assert bool(model.note) == bool(NOTES[network])
    for index, seed in enumerate(SEEDS):
        net, losses = trained_plainly(network, seed, train)
        np.testing.assert_allclose([each.loss[index] for each in scores], losses, rtol=1e-11)
        for found, expected in (
            (model.named_parameters(), net.named_parameters()),
            (model.named_buffers(), net.named_buffers()),
        ):
            for (name, stacked), (plain_name, plain) in zip(found, expected, strict=True):
                assert name == plain_name
                torch.testing.assert_close(stacked[index], plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", NOTES, ids=lambda network: network.__name__)
def test_one_seed_needs_no_note(network):
    assert stack_of(network, [3]).note == ""


def test_convolutions_at_once_as_on_a_gpu(train, monkeypatch):
    """The choice by speed made the other way; statistics and gradients are the same."""
    by_seed, _ = trained(Convolutions, SEEDS, train)
    monkeypatch.setattr(stack, "_why_slower", lambda network, device: "")
    at_once, _ = trained(Convolutions, SEEDS, train)
    assert at_once.note == ""
    for kind in ("named_parameters", "named_buffers"):
        pairs = zip(getattr(by_seed, kind)(), getattr(at_once, kind)(), strict=True)
        for (name, one), (_, other) in pairs:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("network", [Linears, Convolutions, Drops], ids=lambda n: n.__name__)
def test_a_seed_does_not_depend_on_its_stack(network, train):
    alone, _ = trained(network, [6], train)
    among, _ = trained(network, SEEDS, train)
    for (_, one), (_, stacked) in zip(
        alone.named_parameters(), among.named_parameters(), strict=True
    ):
        torch.testing.assert_close(one[0], stacked[1], rtol=1e-11, atol=1e-13)


def test_training_leaves_the_caller_s_random_numbers_alone(train):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    trained(Drops, SEEDS, train)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("network", [Linears, Convolutions, Drops], ids=lambda n: n.__name__)
def test_a_twin_has_the_weights_and_leaves_no_trace(network, train):
    model = stack_of(network)
    twin = model.twin()
    buffers = [buffer.clone() for _, buffer in model.named_buffers()]
    for (_, mine), (_, its) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert its.data_ptr() == mine.data_ptr()
    twin.train(False)
    expected = model.forward(train.images)  # in training: twin.train changes the twin alone
    assert not torch.allclose(twin.forward(train.images), expected)
    twin.train(True)
    twin.forward(train.images).sum().backward()
    assert all(parameter.grad is None for _, parameter in model.named_parameters())
    fresh = stack_of(network)
    fresh.forward(train.images)
    for before, (_, after), (_, once) in zip(
        buffers, model.named_buffers(), fresh.named_buffers(), strict=True
    ):
        assert torch.equal(after, once)
        assert not torch.equal(after, before)
    # Nor have the seeds' random numbers gone on further than by the model's own pass.
    assert torch.equal(model.forward(train.images), fresh.forward(train.images))


def test_the_perceptron_as_a_module_is_the_stacked_one(train):
    """Weights, logits and gradients, with other sizes than the report's."""
    config = MLPConfig((130, 7), (1, 2), "before")
    settings = {
        "hidden_sizes": [130, 7],
        "layernorm_position": [1, 2],
        "layernorm_placement": "before",
    }
    arguments = (kaiming, SEEDS, (37,), NUM_CLASSES, CPU, torch.float64)
    one = build_stack(config, *arguments)
    other = build_stack(ModuleConfig("optsweep.models.mlp.MLP", settings), *arguments)
    images = torch.randn(3, 5, 37, dtype=torch.float64)
    for batch in (images, images[0]):
        torch.testing.assert_close(one.forward(batch), other.forward(batch))
    one.forward(images).square().sum().backward()
    other.forward(images).square().sum().backward()
    for (name, a), (other_name, b) in zip(
        one.named_parameters(), other.named_parameters(), strict=True
    ):
        assert name == other_name
        assert torch.equal(a, b)
        torch.testing.assert_close(a.grad, b.grad)


def test_colour_images_through_lenet():
    config = ModuleConfig("optsweep.models.lenet.LeNet")
    model = build_stack(config, default, SEEDS, (3, 32, 32), NUM_CLASSES, CPU, torch.float32)
    images = torch.rand(4, 3, 32, 32)
    shared = model.forward(images)
    assert shared.shape == (3, 4, NUM_CLASSES)
    own = model.forward(images.expand(3, 4, 3, 32, 32))
    torch.testing.assert_close(own, shared)


def test_a_network_of_torchvision_learns_small_colour_images():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    train = Split(images, torch.arange(8) % NUM_CLASSES)
    config = ModuleConfig("torchvision.models.resnet18")
    model = build_stack(config, default, [0, 1], (3, 32, 32), NUM_CLASSES, CPU, torch.float32)
    resolved = ResolvedOptimizer(torch.optim.SGD, {"lr": 0.05}, True, 0.05)
    optimizer = resolved.build(model.named_parameters())
    engine = ReferenceEngine(model, optimizer, train, 8)
    losses = [engine.train_epoch(None, np.array([0.05])).loss for _ in range(4)]
    assert (losses[-1] < 0.5 * losses[0]).all()
    tracked = dict(model.named_buffers())["bn1.num_batches_tracked"]
    assert tracked.tolist() == [4, 4]  # nothing of what was tried out before


class Lazy(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))


class Linear(nn.Module):
    """The base of modules that do what they should not."""

    def __init__(self, num_inputs, num_classes):
        super().__init__()
        self.linear = nn.Linear(num_inputs, num_classes)
        self.register_buffer("mean", torch.zeros(()))
        self.num_calls = 0

    def forward(self, images):
        return self.linear(images.flatten(1))


class Counts(Linear):
    def forward(self, images):
        self.num_calls += 1
        return super().forward(images)


class Caches(Linear):
    def forward(self, images):
        self.linear.seen = images
        return super().forward(images)


class Replaces(Linear):
    def forward(self, images):
        self.mean = self.mean + images.mean()
        return super().forward(images)


class Draws(Linear):
    def forward(self, images):
        return functional.dropout(super().forward(images), 0.5, training=True)


class DrawsElsewhere(Linear):
    def forward(self, images):
        return super().forward(images) * random.random()


class Pair(Linear):
    def forward(self, images):
        return super().forward(images), images


class Number(Linear):
    def forward(self, images):
        return super().forward(images).mean(1)


class Images(Linear):
    def forward(self, images):
        return images


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Lazy, "model Lazy has lazy modules; give the sizes of all layers"),
        (Counts, "model Counts changes its attribute num_calls; seeds would share it"),
        (Caches, "model Caches changes its attribute linear.seen; seeds would share it"),
        (Replaces, "model Replaces replaces its buffer mean; change it in place"),
        (Draws, "model Draws draws random numbers in evaluation too"),
        (DrawsElsewhere, "model DrawsElsewhere draws random numbers that are not torch's"),
        (Pair, "model Pair gives a tuple; expected a tensor of logits"),
        (Number, "model Number gives a number for an example; expected 4 logits"),
        (Images, "model Images gives 2 x 6 x 6 for an example; expected 4 logits"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_a_stack_is_refused_in_one_line(network, message):
    with pytest.raises(InputError) as error:
        stack_of(network)
    assert str(error.value) == message


def test_examples_that_a_network_cannot_take_are_refused_in_one_line():
    with pytest.raises(
        InputError, match=r"^model Convolutions cannot take examples of shape 2 x 9:"
    ):
        stack_of(Convolutions, shape=(2, 9))
