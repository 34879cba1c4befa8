"""Training agrees with the loop that a plain PyTorch script has, seed by seed.

The plain loop knows nothing of optsweep but the order of the examples and the pixels: its
networks are `nn.Sequential` after `torch.manual_seed(seed)`, its optimizers `torch.optim`
classes (LARS and LAMB written out below), its schedules `torch.optim.lr_scheduler` classes,
`LambdaLR` with the formula written out where PyTorch has none.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler

from optsweep.cli.composition import config_dir
from optsweep.data import epoch_orders, load_dataset
from optsweep.model import StackedMLP

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class PlainLARS(Optimizer):
    """Algorithm 1 of arXiv:1708.03888, one layer after the other."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, trust_coefficient=0.001):
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "trust_coefficient": trust_coefficient})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                decay = group["weight_decay"]
                denominator = w.grad.norm() + decay * w.norm()
                rate = 1.0
                if w.norm() > 0 and denominator > 0:
                    rate = group["trust_coefficient"] * w.norm() / denominator
                v = self.state[w].get("v", torch.zeros_like(w))
                v = group["momentum"] * v + group["lr"] * rate * (w.grad + decay * w)
                self.state[w]["v"] = v
                w -= v


class PlainLAMB(Optimizer):
    """Algorithm 2 of arXiv:1904.00962, one layer after the other."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for w in group["params"]:
                state = self.state[w]
                t = state["t"] = state.get("t", 0) + 1
                state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * w.grad
                state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * w.grad**2
                m, v = state["m"] / (1 - beta1**t), state["v"] / (1 - beta2**t)
                u = m / (v.sqrt() + group["eps"]) + group["decay"] * w
                ratio = w.norm() / u.norm() if w.norm() > 0 and u.norm() > 0 else 1.0
                w -= group["lr"] * ratio * u


def build_network(sizes=(128, 56), norms=(), before=False) -> nn.Sequential:
    """784 - ReLU layers - 10, with layer normalization of the hidden layers in `norms`."""
    layers, width = [], 784
    for number, size in enumerate(sizes, start=1):
        norm = [nn.LayerNorm(size)] if number in norms else []
        relu = [nn.ReLU()]
        layers += [nn.Linear(width, size), *(norm + relu if before else relu + norm)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, 10))


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


def weights_and_others(net, weight_decay):
    """Parameter groups: weight decay for the matrices alone."""
    weights = [parameter for parameter in net.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in net.parameters() if parameter.ndim == 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


class Case(NamedTuple):
    """What optsweep is told, and the same for the plain loop."""

    overrides: str = ""
    optimizer: Callable[[nn.Module], Optimizer] = lambda net: SGD(net.parameters(), lr=0.1)
    scheduler: Callable[[Optimizer, int], lr_scheduler.LRScheduler] | None = None  # of ticks
    per_step: bool = False
    init: Callable[[nn.Module], None] | None = None
    network: Callable[[], nn.Sequential] = build_network
    val_size: int = 800  # of 1000, so that 200 are trained on
    batch_size: int = 40
    epochs: int = 10


def from_option_file(name: str) -> Callable[[nn.Module], Optimizer]:
    """The optimizer of an option file: its class, called with all the file's other settings."""
    settings = yaml.safe_load((config_dir() / "optimizer" / f"{name}.yaml").read_text())
    module, _, class_name = settings.pop("_target_").rpartition(".")
    ours = {"LARS": PlainLARS, "LAMB": PlainLAMB}
    optimizer = ours[class_name] if module == "optsweep.optimizers" else None
    return lambda net: (optimizer or getattr(torch.optim, class_name))(
        net.parameters(), **settings
    )


def options(group: str) -> list[str]:
    return sorted(path.stem for path in Path(config_dir(), group).glob("*.yaml"))


OPTIMIZERS = {
    f"optimizer={name}": Case(f"optimizer={name}", from_option_file(name))
    for name in options("optimizer")
    if name != "custom"
} | {
    "Adamax": Case(
        "optimizer=torch.optim.Adamax", lambda net: torch.optim.Adamax(net.parameters())
    ),
    # Not element-wise: optsweep runs one per seed.
    "Adafactor": Case(
        "optimizer=torch.optim.Adafactor", lambda net: torch.optim.Adafactor(net.parameters())
    ),
}

# 2 steps an epoch: milestone 15 is reached in epochs, 15 and 30 in steps.
def scheduled(name, scheduler, lr=0.1, **changes):
    optimizer = functools.partial(_sgd, lr)
    return Case(
        f"scheduler={name}", optimizer, scheduler, batch_size=100, epochs=28, **changes
    )

def _sgd(lr, net):
    return SGD(net.parameters(), lr=lr)

def lambda_lr(multiplier):
    """A schedule from its formula in the tick t and the number of ticks of the run, T."""
    return lambda optimizer, T: lr_scheduler.LambdaLR(optimizer, lambda t: multiplier(t, T))

EPOCH_SCHEDULES = {
    "constant": scheduled("constant", None),
    "factor_fast": scheduled("factor_fast", lambda_lr(lambda t, T: max(0.9**t, 1e-2 / 2.0)), lr=2.0),
    "factor_slow": scheduled("factor_slow", lambda_lr(lambda t, T: max(0.8**t, 1e-3 / 0.2)), lr=0.2),
    "multistep": scheduled("multistep", lambda optimizer, T: lr_scheduler.MultiStepLR(optimizer, [15, 30], gamma=0.5)),
    "piecewise": scheduled("piecewise", lambda_lr(lambda t, T: 1.0 if t < T / 2 else 0.5 if t < 3 * T / 4 else 0.25)),
    "polynomial": scheduled("polynomial", lambda optimizer, T: lr_scheduler.PolynomialLR(optimizer, T, power=2)),
    "linear": scheduled("linear", lambda optimizer, T: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=T)),
    "cosine": scheduled("cosine", lambda optimizer, T: lr_scheduler.CosineAnnealingLR(optimizer, T)),
    "warmup": scheduled("warmup", lambda_lr(lambda t, T: min(1.0, (t + 1) / (4 * T / 28)))),
    "cosine_warmup": scheduled("cosine_warmup", lambda_lr(lambda t, T: (t + 1) / (T / 7) if t < T / 7 else (1 + math.cos(math.pi * (t - T / 7) / (T - T / 7))) / 2)),
    "one_cycle": scheduled("one_cycle", lambda optimizer, T: lr_scheduler.OneCycleLR(optimizer, 0.1, T, cycle_momentum=False), per_step=True),
}
SCHEDULES = {}
for _name, _case in EPOCH_SCHEDULES.items():
    SCHEDULES[f"scheduler={_name}"] = _case
    if not _case.per_step:
        SCHEDULES[f"scheduler={_name} step"] = _case._replace(overrides=_case.overrides+" scheduler.interval=step", per_step=True)

INITS = {
    f"init={name}": Case(f"init={name}", init=init)
    for name, init in {
        "default": None,
        "gaussian": init_gaussian,
        "xavier": init_xavier,
        "kaiming": init_kaiming,
        "orthogonal": init_orthogonal,
    }.items()
}

def layer_norms():
    for before in (False, True):
        for name, norms in {"none": (), "first": (1,), "second": (2,), "third": (3,), "all": (1, 2, 3)}.items():
            placement = "before" if before else "after"
            yield f"layernorm={name} {placement}", Case(
                f"depth=deeper layernorm_position={name} model.layernorm_placement={placement}",
                network=functools.partial(build_network, (128, 56, 32), norms, before))
NORMS = dict(layer_norms())

def decays():
    network = functools.partial(build_network, norms=(1,))
    for name, optimizer in {
        "sgd": functools.partial(SGD, lr=0.1),
        "adam": Adam,
        "adamw": AdamW,
        "rmsprop": functools.partial(RMSprop, lr=1e-3),
    }.items():
        overrides = f"optimizer={name} weight_decay=0.1 layernorm_position=first optimizer.decay_biases_and_norms="
        yield f"decay {name}", Case(overrides + "true", lambda net, optimizer=optimizer: optimizer(net.parameters(), weight_decay=0.1), network=network)
        yield f"decay {name} matrices", Case(overrides + "false", lambda net, optimizer=optimizer: optimizer(weights_and_others(net, 0.1)), network=network)
DECAYS = dict(decays())

MOMENTA = {
    "momentum=none": Case("momentum=none"),
    "momentum=report": Case("momentum=report", lambda net: SGD(net.parameters(), lr=0.1, momentum=0.9)),
    "momentum=low": Case("momentum=low", lambda net: SGD(net.parameters(), lr=0.1, momentum=0.3)),
    "momentum=high": Case("momentum=high optimizer.lr=1e-9", lambda net: SGD(net.parameters(), lr=1e-9, momentum=1.5)),
    "momentum=nesterov": Case("momentum=nesterov", lambda net: SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)),
    "rmsprop": Case("optimizer=rmsprop momentum=0.9", lambda net: RMSprop(net.parameters(), lr=1e-3, momentum=0.9)),
    "adam": Case("optimizer=adam momentum=0.5", lambda net: Adam(net.parameters(), betas=(0.5, 0.999))),
    "betas": Case("optimizer=adam momentum=report_low", lambda net: Adam(net.parameters(), betas=(0.6, 0.666))),
}
BATCHES = {
    "batch 1": Case(batch_size=1, val_size=950, epochs=1),
    "partial": Case(batch_size=60, epochs=13),
    "full": Case(batch_size="full", epochs=50),
    "1000": Case(batch_size="200", epochs=50),
}
CASES = OPTIMIZERS | SCHEDULES | INITS | NORMS | DECAYS | MOMENTA | BATCHES

class PlainRun(NamedTuple):
    initial: list
    final: list
    lr: list
    train_loss: list
    train_accuracy: list
    test_loss: float


def plain_run(case: Case, seed, dataset, dtype):
    images, labels = dataset.train.images, dataset.train.labels
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = case.network()
        if case.init:
            net.apply(case.init)
    initial = [p.detach().clone() for p in net.parameters()]
    net.to(dtype)
    optimizer = case.optimizer(net)
    batch_size = len(labels) if case.batch_size=="full" else int(case.batch_size)
    ticks = case.epochs * (math.ceil(len(labels) / batch_size) if case.per_step else 1)
    scheduler = case.scheduler(optimizer, ticks) if case.scheduler else None
    rates, losses, accuracies = [], [], []
    for epoch in range(1, case.epochs + 1):
        loss_sum = num_correct = 0.0
        for batch in epoch_orders([seed], epoch, len(labels), "cpu")[0].split(batch_size):
            logits = net(images[batch])
            loss = functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
            num_correct += (logits.argmax(1) == labels[batch]).sum().item()
            rate = optimizer.param_groups[0]["lr"]
            if scheduler and case.per_step:
                scheduler.step()
        if scheduler and not case.per_step:
            scheduler.step()
        rates.append(rate); losses.append(loss_sum/len(labels)); accuracies.append(num_correct/len(labels))
    with torch.no_grad():
        test_loss = functional.cross_entropy(net(dataset.test.images), dataset.test.labels).item()
    return PlainRun(initial, [p.detach() for p in net.parameters()], rates, losses, accuracies, test_loss)
