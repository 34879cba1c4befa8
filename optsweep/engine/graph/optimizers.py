"""How torch's optimizers are to compute so that a step leaves nothing for the host to decide."""

from __future__ import annotations

import inspect
from dataclasses import replace

from optsweep.optim.resolved import ResolvedOptimizer


def capturable(optimizer: ResolvedOptimizer) -> ResolvedOptimizer:
    """The same optimizer, with its steps counted and its rate read on the device.

    Classes that have a fused kernel use it; of others that can be captured the form that takes
    all parameters at once, since the one that takes them singly reads the rate's value in some.
    A class that knows neither is left as it is.
    """
    rest = None if optimizer.rest is None else capturable(optimizer.rest)
    known = inspect.signature(optimizer.target).parameters
    switches = {key: True for key in ("capturable", "fused") if key in known}
    if "foreach" in known and "fused" not in known:
        switches["foreach"] = True
    return replace(optimizer, rest=rest, switches=switches)


def needs_gpu(optimizer: ResolvedOptimizer) -> bool:
    """Whether torch takes no step in that form on a CPU: it allows a fused kernel alone there."""
    others = optimizer.rest is not None and needs_gpu(optimizer.rest)
    return others or {"capturable", "fused"} & {*optimizer.switches} == {"capturable"}
