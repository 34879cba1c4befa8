"""Training agrees with the loop that a plain PyTorch script has, seed by seed.

The plain loop takes nothing from optsweep but the pixels and the order of the examples: its
networks are `nn.Sequential` after `torch.manual_seed(seed)`, its optimizers classes of
`torch.optim` (LARS and LAMB are written out below), its schedules classes of
`torch.optim.lr_scheduler`, or `LambdaLR` with the formula written out.
"""

import dataclasses
import functools
import itertools
import math
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop, lr_scheduler

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import options
from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Dataset, epoch_orders, load_dataset
from optsweep.models import initializers
from optsweep.models.mlp import StackedMLP

# 50 steps or more of each. Networks and batches are small because a ReLU whose input is so
# near to 0 that rounding decides its sign makes two correct programs part for good: with the
# report's network, 50 batches of 40 and float32, it did so in 6 of 60 stacks of three seeds.
HIDDEN_SIZES = (16, 8)
# A comparison in float32 needs trajectories on which no input of a ReLU, and no lead of the
# largest logit, is smaller than this part of their layer's root mean square. In float32 they
# are off by 1e-7 to 1e-6 of it.
MARGIN = 5e-6
# With layer normalization or momentum, batches of 4 and the default learning rate of 0.1,
# training is unstable: rounding grows 10^4 fold in 50 steps (float64: 2e-12, float32: 7e-4).
CALM_LR = 0.01
RELATIVE_ERROR = {"float32": 1e-5, "float64": 1e-10}
# Two float32 programs may differ by this many times what rounding alone makes of one of them:
# where a step is divided by the gradient's size, more than the above on some processors
# (Adafactor 1.3e-5, RMSprop with momentum 1.7e-5; the plain loop's own 0.2e-5 and 0.5e-5).
TIMES_OWN_ROUNDING = 10
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class PlainLARS(Optimizer):
    """Algorithm 1 of arXiv:1708.03888 on the layers of one network."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001):
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "trust": trust_coefficient})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            decay = group["weight_decay"]
            for w in group["params"]:
                denominator = w.grad.norm() + decay * w.norm()
                rate = 1.0
                if w.norm() > 0 and denominator > 0:
                    rate = group["trust"] * w.norm() / denominator
                v = group["momentum"] * self.state[w].get("v", torch.zeros_like(w))
                self.state[w]["v"] = v + group["lr"] * rate * (w.grad + decay * w)
                w.sub_(self.state[w]["v"])


class PlainLAMB(Optimizer):
    """Algorithm 2 of arXiv:1904.00962, with bias correction, on the layers of one network."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for w in group["params"]:
                state = self.state[w]
                t = state["t"] = state.get("t", 0) + 1
                state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * w.grad
                state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * w.grad**2
                m, v = state["m"] / (1 - beta1**t), state["v"] / (1 - beta2**t)
                u = m / (v.sqrt() + group["eps"]) + group["weight_decay"] * w
                ratio = w.norm() / u.norm() if w.norm() > 0 and u.norm() > 0 else 1.0
                w.sub_(group["lr"] * ratio * u)


def build_network(hidden_sizes, norms=(), before=False) -> nn.Sequential:
    """Linear layers and ReLU, with layer normalization of the hidden layers in `norms`."""
    layers: list[nn.Module] = []
    num_inputs = 784
    for number, size in enumerate(hidden_sizes, start=1):
        layers.append(nn.Linear(num_inputs, size))
        if number in norms and before:
            layers.append(nn.LayerNorm(size))
        layers.append(nn.ReLU())
        if number in norms and not before:
            layers.append(nn.LayerNorm(size))
        num_inputs = size
    return nn.Sequential(*layers, nn.Linear(num_inputs, 10))


def init_gaussian(m):
    if type(m) is nn.Linear:
        nn.init.normal_(m.weight, mean=0, std=0.01)
        nn.init.zeros_(m.bias)


def init_xavier(m):
    if type(m) is nn.Linear:
        nn.init.xavier_uniform_(m.weight)


def init_kaiming(m):
    if type(m) is nn.Linear:
        nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        nn.init.zeros_(m.bias)


def init_orthogonal(m):
    if type(m) is nn.Linear:
        nn.init.orthogonal_(m.weight, gain=nn.init.calculate_gain("relu"))
        nn.init.zeros_(m.bias)


INITS = {
    "default": lambda m: None,
    "gaussian": init_gaussian,
    "xavier": init_xavier,
    "kaiming": init_kaiming,
    "orthogonal": init_orthogonal,
}


def of_all(optimizer: Callable[..., Optimizer], **settings) -> Callable[[nn.Module], Optimizer]:
    return lambda net: optimizer(net.parameters(), **settings)


def of_matrices(optimizer: Callable[..., Optimizer], weight_decay: float, **settings):
    """The optimizer with weight decay for the weight matrices alone."""

    def build(net):
        matrices = [p for p in net.parameters() if p.ndim == 2]
        others = [p for p in net.parameters() if p.ndim == 1]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return optimizer(groups, **settings)

    return build


def of_option_file(name: str) -> Callable[[nn.Module], Optimizer]:
    """The class that an option file names, called with all its other settings."""
    settings = yaml.safe_load((config_dir() / "optimizer" / f"{name}.yaml").read_text())
    target = settings.pop("_target_")
    ours = {
        "optsweep.optim.layerwise.LARS": PlainLARS,
        "optsweep.optim.layerwise.LAMB": PlainLAMB,
    }
    return of_all(ours.get(target) or pkgutil.resolve_name(target), **settings)


class Case(NamedTuple):
    """What optsweep is told, and what the plain loop does."""

    overrides: str
    optimizer: Callable[[nn.Module], Optimizer] = of_all(SGD, lr=0.1)
    scheduler: Callable[[Optimizer, int], lr_scheduler.LRScheduler] | None = None
    scheduler_per_step: bool = False
    init: Callable[[nn.Module], None] = INITS["default"]
    hidden_sizes: tuple[int, ...] = HIDDEN_SIZES
    norms: tuple[int, ...] = ()  # hidden layers with layer normalization
    norm_before: bool = False
    num_train: int = 40
    batch_size: int = 4
    epochs: int = 5

    @property
    def all_overrides(self) -> list[str]:
        given = [
            f"dataset.train_size={self.num_train}",
            f"trainer.epochs={self.epochs}",
            "trainer.engine=torch",
            *self.overrides.split(),
        ]
        if "depth=" not in self.overrides:
            sizes = ",".join(map(str, self.hidden_sizes))
            given.append(f"model.hidden_sizes=[{sizes}]")
        if "batch_size=" not in self.overrides:
            given.append(f"batch_size={self.batch_size}")
        return given


# What each is compared with stands in test_package_parity.
OF_PACKAGES = (
    "ademamix",
    "lion",
    "muon",
    "prodigy",
    "schedulefree_adamw",
    "schedulefree_sgd",
    "soap",
    "sophia",
)


def optimizer_cases() -> Iterator[Case]:
    for name in options("optimizer", config_dir()):
        if name not in ("custom", *OF_PACKAGES):
            yield Case(f"optimizer={name}", of_option_file(name))
    yield Case("optimizer=torch.optim.Adamax", of_all(torch.optim.Adamax))
    # Not element-wise: optsweep runs one per seed.
    yield Case("optimizer=torch.optim.Adafactor", of_all(torch.optim.Adafactor))


def formula(multiplier: Callable[[int, int], float]):
    """A schedule from its formula in the tick t and the number of ticks T."""
    return lambda optimizer, T: lr_scheduler.LambdaLR(optimizer, lambda t: multiplier(t, T))


# The runs have 16 epochs of 4 steps, so the 4 epochs of a warm-up are a quarter of either.
def warmup(t, T):
    return min(1.0, (t + 1) / (T / 4))


def cosine_warmup(t, T):
    W = T / 4
    return (t + 1) / W if t < W else (1 + math.cos(math.pi * (t - W) / (T - W))) / 2


SCHEDULERS = {
    "constant": None,
    "factor_fast": formula(lambda t, T: max(0.9**t, 1e-2 / 2.0)),
    "factor_slow": formula(lambda t, T: max(0.8**t, 1e-3 / 0.2)),
    "piecewise": formula(lambda t, T: 1.0 if t < T / 2 else 0.5 if t < 3 * T / 4 else 0.25),
    "polynomial": lambda optimizer, T: lr_scheduler.PolynomialLR(optimizer, T, power=2.0),
    "linear": lambda optimizer, T: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=T),
    "cosine": lr_scheduler.CosineAnnealingLR,
    "warmup": formula(warmup),
    "cosine_warmup": formula(cosine_warmup),
    # Of the milestones, one is reached in epochs and both in steps.
    "multistep": lambda optimizer, T: lr_scheduler.MultiStepLR(optimizer, [15, 30], gamma=0.5),
    "one_cycle": lambda optimizer, T: lr_scheduler.OneCycleLR(
        optimizer, 0.1, T, cycle_momentum=False
    ),
}


def scheduler_cases() -> Iterator[Case]:
    for name, scheduler in SCHEDULERS.items():
        lr = {"factor_fast": 2.0, "factor_slow": 0.2}.get(name, 0.1)
        for interval in ("epoch", "step"):
            yield Case(
                f"scheduler={name} scheduler.interval={interval}",
                of_all(SGD, lr=lr),
                scheduler,
                interval == "step",
                batch_size=10,
                epochs=16,
            )


def init_cases() -> Iterator[Case]:
    for name, init in INITS.items():
        yield Case(f"init={name}", init=init)


def depth_cases() -> Iterator[Case]:
    sizes = {
        "shallow": (128,),
        "report": (128, 56),
        "deeper": (128, 56, 32),
        "very_deep": (128, 56, 32, 32, 32, 32),
    }
    for name, hidden_sizes in sizes.items():
        yield Case(f"depth={name}", hidden_sizes=hidden_sizes, num_train=25, batch_size=2, epochs=4)


def layernorm_cases() -> Iterator[Case]:
    positions = {"none": (), "first": (1,), "second": (2,), "third": (3,), "all": (1, 2, 3)}
    for placement in ("after", "before"):
        for name, norms in positions.items():
            yield Case(
                f"layernorm_position={name} model.layernorm_placement={placement} "
                f"optimizer.lr={CALM_LR}",
                of_all(SGD, lr=CALM_LR),
                hidden_sizes=(64, 32, 24),
                norms=norms,
                norm_before=placement == "before",
            )


def weight_decay_cases() -> Iterator[Case]:
    for name, build in {
        "sgd": partial(SGD, lr=0.1),
        "adam": Adam,
        "adamw": AdamW,
        "rmsprop": partial(RMSprop, lr=1e-3),
        "lars": partial(PlainLARS, lr=3.0),
        "lamb": partial(PlainLAMB, lr=5e-3),
    }.items():
        overrides = f"optimizer={name} weight_decay=0.3 layernorm_position=first"
        yield Case(overrides, of_all(build, weight_decay=0.3), norms=(1,))
        yield Case(
            f"{overrides} optimizer.decay_biases_and_norms=false",
            of_matrices(build, weight_decay=0.3),
            norms=(1,),
        )


def momentum_cases() -> Iterator[Case]:
    yield Case("momentum=none", of_all(SGD, lr=0.1))
    calm = f"optimizer.lr={CALM_LR}"
    yield Case(f"momentum=report {calm}", of_all(SGD, lr=CALM_LR, momentum=0.9))
    yield Case("momentum=low", of_all(SGD, lr=0.1, momentum=0.3))
    # Steps grow 1.5 fold, so they have to start small.
    yield Case("momentum=high optimizer.lr=1e-9", of_all(SGD, lr=1e-9, momentum=1.5))
    nesterov = of_all(SGD, lr=CALM_LR, momentum=0.9, nesterov=True)
    yield Case(f"momentum=nesterov {calm}", nesterov)
    yield Case("optimizer=rmsprop momentum=report", of_all(RMSprop, lr=1e-3, momentum=0.9))
    yield Case("optimizer=lars momentum=low", of_all(PlainLARS, lr=3.0, momentum=0.3))
    yield Case("optimizer=adam momentum=0.5", of_all(Adam, betas=(0.5, 0.999)))
    yield Case("optimizer=adam momentum=report_low", of_all(Adam, betas=(0.6, 0.666)))
    yield Case("optimizer=nadam momentum=report_low", of_all(NAdam, betas=(0.6, 0.666)))


def batch_size_cases() -> Iterator[Case]:
    yield Case("batch_size=single", num_train=50, batch_size=1, epochs=1)
    yield Case("batch_size=8", num_train=50, batch_size=8, epochs=8)  # 6 of 8, then 2
    yield Case("batch_size=full", num_train=20, batch_size=20, epochs=50)


CASES = {
    case.overrides: case
    for case in itertools.chain(
        optimizer_cases(),
        scheduler_cases(),
        init_cases(),
        depth_cases(),
        layernorm_cases(),
        weight_decay_cases(),
        momentum_cases(),
        batch_size_cases(),
    )
}


class PlainRun(NamedTuple):
    parameters: list[Tensor]
    lr: list[float]
    train_loss: list[float]
    train_accuracy: list[float]
    test_loss: float
    margin: float


def plain_network(case: Case, seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_network(case.hidden_sizes, case.norms, case.norm_before)
        net.apply(case.init)
    return net


def margin_of(values: Tensor, layer: Tensor) -> float:
    """The smallest value, relative to the root mean square of the layer."""
    with torch.no_grad():
        return (values.abs().min() / layer.square().mean().sqrt()).item()


def train_plainly(case: Case, seed: int, dataset: Dataset) -> PlainRun:
    images, labels = dataset.train.flat, dataset.train.labels
    net = plain_network(case, seed).to(images.dtype)
    margins = []
    for module in net:
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(
                lambda _, inputs: margins.append(margin_of(inputs[0], inputs[0]))
            )
    optimizer = case.optimizer(net)
    num_ticks = case.epochs
    if case.scheduler_per_step:
        num_ticks *= math.ceil(len(labels) / case.batch_size)
    scheduler = case.scheduler(optimizer, num_ticks) if case.scheduler else None
    rates, losses, accuracies = [], [], []
    for epoch in range(1, case.epochs + 1):
        loss_sum = num_correct = 0.0
        order = epoch_orders([seed], epoch, len(labels), "cpu")[0]
        for batch in order.split(case.batch_size):
            lr = optimizer.param_groups[0]["lr"]
            logits = net(images[batch])
            loss = functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler and case.scheduler_per_step:
                scheduler.step()
            loss_sum += loss.item() * len(batch)
            num_correct += (logits.argmax(1) == labels[batch]).sum().item()
            first, second = logits.detach().topk(2).values.unbind(1)
            margins.append(margin_of(first - second, logits))
        if scheduler and not case.scheduler_per_step:
            scheduler.step()
        rates.append(lr)
        losses.append(loss_sum / len(labels))
        accuracies.append(num_correct / len(labels))
    margin = min(margins)  # of training alone: a flip there changes what follows
    with torch.no_grad():
        logits = net(dataset.test.flat)
        test_loss = functional.cross_entropy(logits, dataset.test.labels).item()
    parameters = [parameter.detach() for parameter in net.parameters()]
    return PlainRun(parameters, rates, losses, accuracies, test_loss, margin)


@pytest.fixture(scope="module")
def plainly(slice_config):
    """`plainly(name of a case, seed, precision) -> PlainRun`, each trained once."""

    @functools.cache
    def dataset(num_train: int, precision: str) -> Dataset:
        config = slice_config(f"dataset.train_size={num_train}", "batch_size=1").dataset
        return load_dataset(config, torch.device("cpu"), DTYPES[precision])

    @functools.cache
    def run(name: str, seed: int, precision: str) -> PlainRun:
        case = CASES[name]
        return train_plainly(case, seed, dataset(case.num_train, precision))

    return run


def own_rounding(rounded: list[Tensor], exact: list[Tensor]) -> float:
    """How far float32 is off float64 in the same loop, relative to the parameter's norm."""
    pairs = zip(rounded, exact, strict=True)
    return max(((r - e).norm() / e.norm()).item() for r, e in pairs)


def first_seed(name: str, plainly) -> int:
    """The first of three seeds in whose training no sign depends on rounding."""
    return next(
        first
        for first in itertools.count()
        if all(plainly(name, seed, "float64").margin > MARGIN for seed in range(first, first + 3))
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_training_agrees_with_a_plain_loop(
    name, precision, num_seeds, plainly, slice_config, train_and_keep
):
    config = slice_config(*CASES[name].all_overrides)
    config = dataclasses.replace(
        config,
        trainer=dataclasses.replace(config.trainer, precision=precision),
        seed=first_seed(name, plainly),
        num_seeds=num_seeds,
    )
    record, model = train_and_keep(config)
    for index, seed in enumerate(config.seeds):
        plain = plainly(name, seed, precision)
        tolerance = RELATIVE_ERROR[precision]
        if precision == "float32":
            exact = plainly(name, seed, "float64").parameters
            tolerance = max(tolerance, TIMES_OWN_ROUNDING * own_rounding(plain.parameters, exact))
        rows = [row for row in record.history if row["seed"] == seed and row["epoch"] > 0]
        assert [row["lr"] for row in rows] == pytest.approx(plain.lr, rel=1e-12)
        assert [row["train_loss"] for row in rows] == pytest.approx(plain.train_loss, rel=tolerance)
        assert [row["train_accuracy"] for row in rows] == plain.train_accuracy
        assert rows[-1]["test_loss"] == pytest.approx(plain.test_loss, rel=tolerance)
        named = model.named_parameters()
        for (parameter, stack), expected in zip(named, plain.parameters, strict=True):
            error = (stack[index].detach() - expected).norm() / expected.norm()
            assert error < tolerance, parameter


@pytest.mark.parametrize("init", INITS)
def test_initial_weights_are_those_of_a_plain_script(init):
    sizes = (128, 56, 32)
    config = MLPConfig(hidden_sizes=sizes, layernorm_position=(1, 3))
    device = torch.device("cpu")
    stack = StackedMLP(config, range(3, 6), getattr(initializers, init), 784, 10, device)
    case = Case("", init=INITS[init], hidden_sizes=sizes, norms=(1, 3))
    for index, seed in enumerate(range(3, 6)):
        net = plain_network(case, seed)
        parameters = [tensor[index] for _, tensor in stack.named_parameters()]
        for ours, plain in zip(parameters, net.parameters(), strict=True):
            assert torch.equal(ours, plain)
