"""Optimizers of other packages on stacks do what they do in a plain script, seed by seed.

The options are those of conf/optimizer. The plain loop takes nothing from optsweep but the images
and the order of the examples; it calls the packages as their authors do.
"""

import warnings

import numpy as np
import pytest
import torch
from pytorch_optimizer import SOAP, AdEMAMix, Lion, Prodigy, SophiaH
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn
from torch.nn import functional

from optsweep.config.schema import MLPConfig, ModuleConfig
from optsweep.data.tensors import Dataset, Split, epoch_orders, load_dataset
from optsweep.engine.reference import ReferenceEngine
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.optim.resolved import resolve_optimizer
from optsweep.optim.stacks import (
    JoinedOptimizer,
    SeedwiseOptimizer,
    set_mode,
    take_step,
    wanted,
)
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

CPU = torch.device("cpu")
NUM_TRAIN, BATCH_SIZE, EPOCHS = 300, 24, 2  # 26 steps: SOAP turns its bases twice
SEEDS = range(3, 5)
NETWORKS = {
    "mlp": MLPConfig((20, 12), layernorm_position=(1,)),
    "mlp that drops": MLPConfig((20, 12), dropout=0.2),
    "lenet": ModuleConfig("optsweep.models.lenet.LeNet"),
}
MUON = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


class PlainMuon:
    """Muon for the hidden weights, whose kernels are flattened, and AdamW for all others."""

    def __init__(self, net):
        weights = [p for p in net.parameters() if p.ndim > 1][1:-1]
        others = [p for p in net.parameters() if all(p is not w for w in weights)]
        self.flat = [(w, nn.Parameter(w.detach().flatten(1))) for w in weights]
        self.muon = torch.optim.Muon([f for _, f in self.flat], lr=0.02, weight_decay=0.0)
        self.adamw = torch.optim.AdamW(
            others, lr=1e-3, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0
        )

    def step(self):
        for weight, flat in self.flat:
            flat.grad = weight.grad.flatten(1)
        self.muon.step()
        self.adamw.step()


TORCH_S_OWN = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
    "adam": lambda net: torch.optim.Adam(net.parameters(), lr=3e-3),
}
PLAIN = {
    "muon": PlainMuon,
    "schedulefree_sgd": lambda net: SGDScheduleFree(net.parameters(), lr=1.0),
    "schedulefree_adamw": lambda net: AdamWScheduleFree(net.parameters(), lr=2.5e-3),
    "lion": lambda net: Lion(net.parameters(), lr=3e-4),
    "soap": lambda net: SOAP(net.parameters(), lr=3e-3, weight_decay=0.0),
    "prodigy": lambda net: Prodigy(net.parameters(), lr=1.0),
    "ademamix": lambda net: AdEMAMix(net.parameters(), lr=1e-3),
    "sophia": lambda net: SophiaH(net.parameters(), lr=0.06),  # estimates the Hessian itself
}
# What the probe has to find out: which treat the seeds of a stack apart by themselves.
APART = {"muon": JoinedOptimizer, "soap": SeedwiseOptimizer, "prodigy": SeedwiseOptimizer}
# A step of SOAP turns on eigenvectors of a matrix of small rank, which tell rounding apart: only
# where both take the same operations can they be compared.
NETWORKS_OF = {"muon": ["mlp", "lenet"], "soap": ["lenet"], "sophia": [*NETWORKS]}
CASES = [
    pytest.param(name, network, marks=MUON if name == "muon" else ())
    for name in PLAIN
    for network in NETWORKS_OF.get(name, ["mlp"])
]


@pytest.fixture(scope="module")
def dataset(slice_config) -> Dataset:
    found = load_dataset(slice_config(f"dataset.train_size={NUM_TRAIN}").dataset, CPU, torch.double)
    splits = [Split(s.images.view(-1, 1, 28, 28), s.labels) for s in (found.train, found.test)]
    return Dataset(splits[0], None, splits[1], found.num_classes)


def plain_network(network):
    if network == "mlp":
        return nn.Sequential(
            *[nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.LayerNorm(20)],
            *[nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 10)],
        )
    if network == "mlp that drops":
        return nn.Sequential(
            *[nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Dropout(0.2)],
            *[nn.Linear(20, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 10)],
        )
    return nn.Sequential(
        *[nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), nn.Linear(400, 120), nn.ReLU()],
        *[nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)],
    )


def train_plainly(name, network, seed, dataset, cycled=False):
    """After each epoch the mean loss of its batches and the loss on the test images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return trained_plainly(name, plain_network(network).double(), seed, dataset, cycled)


def trained_plainly(name, net, seed, dataset, cycled):
    optimizer = (PLAIN | TORCH_S_OWN)[name](net)
    images, labels = dataset.train.images, dataset.train.labels
    num_steps = EPOCHS * -(-len(labels) // BATCH_SIZE)
    if cycled:
        rate = optimizer.param_groups[0]["lr"]
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, num_steps)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        net.train()
        if hasattr(optimizer, "train"):
            optimizer.train()
        loss_sum = 0.0
        for batch in epoch_orders([seed], epoch, len(labels), CPU)[0].split(BATCH_SIZE):
            loss = functional.cross_entropy(net(images[batch]), labels[batch])
            net.zero_grad()
            with warnings.catch_warnings():  # of a circle, which zero_grad breaks
                warnings.simplefilter("ignore")
                loss.backward(create_graph=name == "sophia")
            optimizer.step()
            if cycled and scheduler.last_epoch < num_steps - 1:
                scheduler.step()
            loss_sum += loss.item() * len(batch)
        net.eval()
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        with torch.no_grad():
            test = functional.cross_entropy(net(dataset.test.images), dataset.test.labels)
        losses.append((loss_sum / len(labels), test.item()))
    return losses


@pytest.mark.parametrize(("name", "network"), CASES)
def test_a_stack_trains_as_a_plain_script_with_the_package(compose, dataset, name, network):
    optimizer = resolve_optimizer(compose(f"optimizer={name}").optimizer)
    stack = build_stack(NETWORKS[network], default, SEEDS, (1, 28, 28), 10, CPU, torch.double)
    built = optimizer.build(stack.named_parameters())
    assert type(built) is APART.get(name, optimizer.target)
    engine = ReferenceEngine(stack, built, dataset.train, BATCH_SIZE)
    found = []
    for epoch in range(1, EPOCHS + 1):
        orders = epoch_orders(SEEDS, epoch, NUM_TRAIN, CPU)
        train = engine.train_epoch(orders, np.array([optimizer.lr])).loss
        found.append((train, engine.evaluate(dataset.test).loss))
    for index, seed in enumerate(SEEDS):
        own = [(train[index], test[index]) for train, test in found]
        expected = train_plainly(name, network, seed, dataset)
        np.testing.assert_allclose(own, expected, rtol=1e-8)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MUON if name == "muon" else ()) for name in PLAIN]
)
def test_every_step_is_the_package_s(compose, name):
    optimizer = resolve_optimizer(compose(f"optimizer={name}").optimizer)
    generator = torch.Generator().manual_seed(0)
    network = MLPConfig((8, 7), layernorm_position=(2,))
    stack = build_stack(network, default, SEEDS, (6,), 5, CPU, torch.double)
    named = stack.named_parameters()
    plain = [
        nn.Sequential(
            *[nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.LayerNorm(7)],
            nn.Linear(7, 5),
        ).double()
        for _ in SEEDS
    ]
    for index, net in enumerate(plain):
        for (_, ours), theirs in zip(named, net.parameters(), strict=True):
            theirs.data = ours.detach()[index].clone()
    built, peers = optimizer.build(named), [PLAIN[name](net) for net in plain]
    for each in (built, *peers):
        set_mode(each, training=True)
    for step in range(25):
        for place, (_, ours) in enumerate(named):
            ours.grad = torch.randn(ours.shape, generator=generator, dtype=torch.double)
            ours.grad[1] *= 100  # which a common norm or count would show
            for index, net in enumerate(plain):
                [*net.parameters()][place].grad = ours.grad[index].clone()
        requests = wanted(built)
        assert bool(requests) is (name == "sophia" and step % 10 == 0)
        diagonals = {ours: ours.grad.square().flip(-1) for _, ours in named}
        take_step(built, diagonals)
        for index, peer in enumerate(peers):
            if requests:
                peer.step(hessian=[diagonals[ours][index] for _, ours in named])
            else:
                peer.step()
        for place, (_, ours) in enumerate(named):
            theirs = torch.stack([[*net.parameters()][place].detach() for net in plain])
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TORCH_S_OWN)
def test_cycled_momentum_is_that_of_a_plain_script(slice_config, dataset, name):
    lr, settings = {"sgd": (0.1, {"momentum": 0.9}), "adam": (3e-3, {})}[name]
    config = slice_config(
        *[f"optimizer={name}", f"optimizer.lr={lr}", "batch_size=24", "trainer.epochs=2"],
        *[f"{key}={value}" for key, value in settings.items()],
        *["scheduler=one_cycle", "scheduler.cycle_momentum=true", "num_seeds=2", "seed=3"],
        *["model.hidden_sizes=[20,12]", "layernorm_position=[1]", "trainer.precision=float64"],
        f"dataset.train_size={NUM_TRAIN}",
    )
    record = train_cell(plan_cell(config))
    for seed in SEEDS:
        own = [row for row in record.history if row["seed"] == seed and row["epoch"]]
        plain = train_plainly(name, "mlp", seed, dataset, cycled=True)
        found = [(row["train_loss"], row["test_loss"]) for row in own]
        np.testing.assert_allclose(found, plain, rtol=1e-8)


# Test accuracy of one seed after one epoch of the slice, 50 steps, untrained 0.11: as it was when
# this was written. Another rounding or another torch moves it by some of the 200 test images.
LEARNED = {
    "sgd": 0.48,
    "adam": 0.665,
    "muon": 0.7,
    "schedulefree_sgd": 0.71,
    "schedulefree_adamw": 0.705,
    "lion": 0.625,
    "soap": 0.735,
    "prodigy": 0.665,
    "ademamix": 0.67,
    "sophia": 0.68,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MUON if name == "muon" else ()) for name in LEARNED]
)
def test_it_learns_in_an_epoch(slice_config, name):
    config = slice_config(f"optimizer={name}", "batch_size=20", "trainer.epochs=1")
    before, after = train_cell(plan_cell(config)).history
    assert before["test_accuracy"] == 0.11
    assert after["test_accuracy"] == pytest.approx(LEARNED[name], abs=0.08)
