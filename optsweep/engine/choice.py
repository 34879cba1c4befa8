"""Which engine trains a cell: the fastest that can, or the one that was asked for."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from typing import Any, NamedTuple

import numpy as np
import torch

from optsweep.config.checks import InputError
from optsweep.config.schema import Config
from optsweep.config.targets import locate
from optsweep.data.tensors import Split
from optsweep.engine import Engine
from optsweep.engine.compiled.rules import Rule, rule_of
from optsweep.engine.reference import ReferenceEngine
from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP
from optsweep.optim.optimizers import build_optimizer, check_settings


class Choice(NamedTuple):
    """An engine's name, and why it is not the compiled one where that was possible to ask for."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        """The name, and the reason if there is one."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


def choose_engine(config: Config, device: torch.device) -> Choice:
    """Decide between `numba` and `torch`, which serves where the other one cannot."""
    if config.trainer.engine == "torch":
        return Choice("torch")
    if device.type != "cpu":
        return Choice("torch", "numba is for the CPU")
    if importlib.util.find_spec("numba") is None:
        return Choice("torch", "numba is not installed")
    if _rule(config) is None:
        optimizer = config.optimizer["_target_"].rpartition(".")[2]
        return Choice("torch", f"numba has no rule for these settings of {optimizer}")
    return Choice("numba")


def check_engine(choice: Choice, config: Config) -> None:
    """Try the optimizer out, since not every class says at once what it cannot do.

    Raises:
        ValueError: If its settings are not its own, or it cannot take a step.
    """
    target, settings = _optimizer(config)
    check_settings(target, settings)
    if choice.name == "numba":
        target([torch.zeros(1)], **settings)  # a rule takes what the class takes
        return
    model = StackedMLP(config.model, config.seeds[:2], default, 2, 2, torch.device("cpu"))
    engine = make_engine(choice, config, model, Split(torch.eye(2), torch.arange(2)))
    engine.train_epoch(None, np.zeros(1))


def import_engine(choice: Choice) -> None:
    """Import what `make_engine` is going to import."""
    if choice.name == "numba":
        importlib.import_module("optsweep.engine.compiled.engine")


def make_engine(choice: Choice, config: Config, model: StackedMLP, train: Split) -> Engine:
    """Build the chosen engine around a model and its training split."""
    decay_all = config.optimizer["decay_biases_and_norms"]
    batch_size = config.trainer.batch_size
    rule = _rule(config) if choice.name == "numba" else None
    if rule is not None:
        from optsweep.engine.compiled.engine import CompiledEngine  # noqa: PLC0415 (loads the compiler)

        return CompiledEngine(model, rule, decay_all, train, batch_size, torch.get_num_threads())
    target, settings = _optimizer(config)
    optimizer = build_optimizer(model.named_parameters(), target, settings, decay_all)
    return ReferenceEngine(model, optimizer, train, batch_size)


def base_lr(config: Config) -> float:
    """The configured learning rate, or the one that the optimizer's class starts from.

    Raises:
        InputError: If there is neither.
    """
    target, settings = _optimizer(config)
    parameter = inspect.signature(target).parameters.get("lr")
    default = settings.get("lr", parameter and parameter.default)
    if default is None or default is inspect.Parameter.empty:
        raise InputError(
            f"optimizer {target.__name__} has no default learning rate; give optimizer.lr"
        )
    return float(default)


def _optimizer(config: Config) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The optimizer's class and its arguments."""
    settings = dict(config.optimizer)
    target = locate("optimizer", settings.pop("_target_"))
    del settings["decay_biases_and_norms"]
    parameters = inspect.signature(target).parameters
    if "momentum" in settings and "momentum" not in parameters and "betas" in parameters:
        # An Adam-like class without an option file: as for Adam, momentum is the first beta.
        settings["betas"] = (settings.pop("momentum"), parameters["betas"].default[1])
    return target, settings


def _rule(config: Config) -> Rule | None:
    return rule_of(*_optimizer(config))
