"""The compiled engine for multilayer perceptrons on a CPU."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Split
from optsweep.engine.compiled.rules import rule_of
from optsweep.engine.costs import compiled_mlp_seconds

if TYPE_CHECKING:
    from optsweep.engine import Engine, Work


def supports(work: Work) -> str:
    """Why it cannot do the work; empty if it can."""
    if work.device.type != "cpu":
        return "numba is for the CPU"
    if not isinstance(work.model, MLPConfig):
        return "numba knows no network but the multilayer perceptron"
    if work.model.dropout:
        return "numba knows no dropout"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    return _why_no_updates(work)


def _why_no_updates(work: Work) -> str:
    """Why it cannot take the optimizer's steps; empty if it can."""
    if work.optimizer.groups or work.optimizer.rest:
        return "numba knows no groups of parameters with settings of their own"
    if work.cycled:
        return f"numba changes the learning rate alone, and this schedule {work.cycled[0]} too"
    if rule_of(work.optimizer.target, work.optimizer.arguments) is None:
        return f"numba has no rule for these settings of {work.optimizer.target.__name__}"
    return ""


def seconds_per_epoch(work: Work) -> float:
    """What an epoch costs, roughly; for work that it supports."""
    return compiled_mlp_seconds(work)


def prepare() -> str:
    """Import what `build` is going to import; the first time, say where no code can be kept."""
    is_first = "optsweep.engine.compiled.engine" not in sys.modules
    importlib.import_module("optsweep.engine.compiled.engine")
    return importlib.import_module("optsweep.engine.compiled.cache").place().refusal * is_first


def build(work: Work, stack: Any, train: Split) -> Engine:
    """The engine around a stack and its training split."""
    from optsweep.engine.compiled.engine import CompiledEngine  # noqa: PLC0415 (the compiler)

    rule = rule_of(work.optimizer.target, work.optimizer.arguments)
    assert rule is not None
    decay_all = work.optimizer.decay_biases_and_norms
    return CompiledEngine(stack, rule, decay_all, train, work.batch_size, work.num_threads)
