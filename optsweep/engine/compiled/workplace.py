"""What an epoch reads, and what a thread works with: the arguments of the compiled loops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.example import Example, new_example
from optsweep.engine.compiled.inputs import Lists, new_lists
from optsweep.engine.compiled.layers import Network, Passes, new_passes
from optsweep.engine.compiled.memory import aligned
from optsweep.engine.compiled.team import BLOCK, CHUNK, HALVES, SHARES, Member


class Data(NamedTuple):
    """The examples of an epoch.

    Attributes:
        images: (N, inputs).
        labels: (N,) int64.
        order: (N,) int64, or empty if every step sees all examples in their own order.
        batch_size: Examples of a step; the last one may have fewer.
    """

    images: Any
    labels: Any
    order: Any
    batch_size: int


class Shared(NamedTuple):
    """What the members of a team write for each other; README.md says who may when.

    Attributes:
        sums: (2, SHARES, n), what each share adds to the first layer's products, in turns.
        squares: (SHARES, 2) float64, what each share adds to squared norms of the first layer.
        passes: Of a chunk through the layers, half by half.
        gradients: (HALVES, P), of all parameters but the first layer's weights, half by half.
    """

    sums: Any
    squares: Any
    passes: Passes
    gradients: Any


class Workplace(NamedTuple):
    """What a thread works with.

    Attributes:
        network: The shape.
        member: Its place in the team.
        shared: The team's.
        lists: The non-zero inputs.
        example: For one example alone.
        labels: (CHUNK,) int64.
        losses: (HALVES,) float64, summed up half by half.
        gradient: (BLOCK * units,), of the first layer's weights of a block of inputs.
    """

    network: Network
    member: Member
    shared: Shared
    lists: Lists
    example: Example
    labels: Any
    losses: Any
    gradient: Any


def new_shared(network: Network, num_sums: int, num_rest: int, dtype: np.dtype) -> Shared:
    """Room for one team.

    Args:
        network: The shape.
        num_sums: Numbers that a share adds to the first layer's products.
        num_rest: Parameters but the first layer's weights.
        dtype: Of all numbers.
    """
    return Shared(
        sums=np.zeros((2, SHARES, num_sums), dtype),
        squares=np.zeros((SHARES, 2)),
        passes=new_passes(network, dtype),
        gradients=np.zeros((HALVES, num_rest), dtype),
    )


def new_workplace(network: Network, member: Member, shared: Shared) -> Workplace:
    """Room for one thread."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    dtype = shared.sums.dtype
    return Workplace(
        network=network,
        member=member,
        shared=shared,
        lists=new_lists(num_inputs, dtype),
        example=new_example(network, dtype),
        labels=np.zeros(CHUNK, np.int64),
        losses=np.zeros(HALVES),
        gradient=aligned(BLOCK * width, dtype),
    )
