"""How the network of one seed begins: as in a plain script that starts with this seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from optsweep.config.checks import Blaming
from optsweep.models.initializers import default

# (weight of two or more axes, its bias or None, generator): fills both in place.
Initializer = Callable[[Tensor, Tensor | None, Generator], None]


class Beginning(NamedTuple):
    """A network before its first step, and the state of the generator that drew its weights."""

    network: nn.Module
    rng_state: Tensor


def begin(build: Callable[[], nn.Module], initializer: Initializer, seed: int) -> Beginning:
    """Build a network as a script does after `torch.manual_seed(seed)`, then initialise it.

    Weights are drawn on the CPU in float32 whatever the device and precision of the training,
    so that they are the same everywhere, and the caller's random numbers are left alone.

    An initialiser other than `default`, which means "as the module itself begins", fills every
    parameter of two or more axes that is called a weight, with the bias beside it, in the order
    of the modules and from the same generator. What is not called a weight, such as a
    transformer's positions, begins as its module would have it.
    """
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.set_default_dtype(torch.float32)
        try:
            generator = torch.default_generator.manual_seed(seed)
            network = build()
            if initializer is not default:
                _initialize(network, initializer, generator)
            return Beginning(network, generator.get_state())
        finally:
            torch.set_default_dtype(dtype)


@torch.no_grad()
def _initialize(network: nn.Module, initializer: Initializer, generator: Generator) -> None:
    for name, weight in network.named_parameters():
        module, _, leaf = name.rpartition(".")
        if weight.ndim >= 2 and "weight" in leaf:
            sibling = leaf.replace("weight", "bias")  # in_proj_weight has an in_proj_bias
            bias = getattr(network.get_submodule(module), sibling, None)
            with Blaming("init"):
                initializer(weight, bias if isinstance(bias, Tensor) else None, generator)
