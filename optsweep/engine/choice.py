"""Which engine trains a cell: the fastest that can, or the one that was asked for."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import torch

from optsweep.config import Config
from optsweep.data import Split
from optsweep.engine import Engine
from optsweep.engine.reference import ReferenceEngine
from optsweep.engine.rules import Rule, rule_of
from optsweep.locate import locate
from optsweep.model import StackedMLP
from optsweep.optimizers import build_optimizer


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


def make_engine(choice: Choice, config: Config, model: StackedMLP, train: Split) -> Engine:
    """Build the chosen engine around a model and its training split."""
    settings = dict(config.optimizer)
    target = locate("optimizer", settings.pop("_target_"))
    decay_all = settings.pop("decay_biases_and_norms")
    batch_size = config.trainer.batch_size
    rule = _rule(config) if choice.name == "numba" else None
    if rule is not None:
        from optsweep.engine.compiled import CompiledEngine  # noqa: PLC0415 (loads the compiler)

        return CompiledEngine(model, rule, decay_all, train, batch_size, torch.get_num_threads())
    optimizer = build_optimizer(model.named_parameters(), target, settings, decay_all)
    return ReferenceEngine(model, optimizer, train, batch_size)


def _rule(config: Config) -> Rule | None:
    settings = dict(config.optimizer)
    target = locate("optimizer", settings.pop("_target_"))
    del settings["decay_biases_and_norms"]
    return rule_of(target, settings)
