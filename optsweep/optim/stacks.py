"""Any optimizer on stacks of seeds: does it treat seeds apart? If not, one for each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optsweep.optim import curvature
from optsweep.optim.curvature import NO_DIAGONALS, Diagonals, Hutchinson

Factory = Callable[[list[Tensor]], Optimizer]
# In a group of parameters: its learning rate as a multiple of the schedule's.
RATE_SCALE = "rate_scale"


class SeedwiseOptimizer:
    """One optimizer per seed, made by ``factory`` from the seed's tensors without the seed axis.

    They share memory with the leaf tensors ``parameters`` (S, ...), which a step thus changes.
    With ``as_matrices`` an optimizer of matrices sees a convolution's kernels (out, in, h, w)
    as (out, in h w).
    """

    def __init__(
        self, parameters: Sequence[Tensor], factory: Factory, as_matrices: bool = False
    ) -> None:
        self._stacks = list(parameters)
        self._as_matrices = as_matrices
        stacks = (self._seen(stack.detach()) for stack in self._stacks)
        self._seeds = [[nn.Parameter(p) for p in seed] for seed in zip(*stacks, strict=True)]
        self.optimizers = [factory(list(seed)) for seed in self._seeds]
        self.param_groups = [group for each in self.optimizers for group in each.param_groups]

    def train(self) -> None:
        """See `set_mode`."""
        for optimizer in self.optimizers:
            set_mode(optimizer, training=True)

    def eval(self) -> None:
        """See `set_mode`."""
        for optimizer in self.optimizers:
            set_mode(optimizer, training=False)

    def wanted(self) -> list[Hutchinson]:
        """See `wanted`."""
        request = curvature.wanted(self.optimizers[0])
        if request is None:
            return []
        stack_of: dict[Tensor, Tensor] = dict(zip(self._seeds[0], self._stacks, strict=True))
        return [replace(request, parameters=[stack_of[each] for each in request.parameters])]

    def step(self, diagonals: Diagonals = NO_DIAGONALS) -> None:
        """Update every seed with its slice of the stacks' gradients, and of the estimates."""
        for stack, *seeds in zip(self._stacks, *self._seeds, strict=True):
            found = stack.grad
            gradients = [None] * len(seeds) if found is None else self._seen(found).unbind()
            for parameter, gradient in zip(seeds, gradients, strict=True):
                parameter.grad = gradient  # a view: nothing is copied
        for index, (optimizer, seed) in enumerate(zip(self.optimizers, self._seeds, strict=True)):
            pairs = zip(seed, self._stacks, strict=True)
            own: dict[Tensor, Tensor] = {
                each: self._seen(diagonals[stack])[index]
                for each, stack in pairs
                if stack in diagonals
            }
            curvature.take_step(optimizer, own)

    def _seen(self, stack: Tensor) -> Tensor:
        return stack.view(*stack.shape[:2], -1) if self._as_matrices else stack


class JoinedOptimizer:
    """Several optimizers, each of which has some of a stack's parameters."""

    def __init__(self, members: Sequence[StackOptimizer]) -> None:
        self._members = members
        self.optimizers = [part for member in members for part in parts_of(member)]
        self.param_groups = [group for part in self.optimizers for group in part.param_groups]

    def train(self) -> None:
        """See `set_mode`."""
        for member in self._members:
            set_mode(member, training=True)

    def eval(self) -> None:
        """See `set_mode`."""
        for member in self._members:
            set_mode(member, training=False)

    def wanted(self) -> list[Hutchinson]:
        """See `wanted`."""
        return [request for member in self._members for request in wanted(member)]

    def step(self, diagonals: Diagonals = NO_DIAGONALS) -> None:
        """Let each take its step."""
        for member in self._members:
            take_step(member, diagonals)


class CellwiseOptimizer:
    """Of a stack of several cells the optimizer of each, which may be any and has its own rate.

    Each acts on the stacks of its own seeds alone, which share memory with the leaf tensors
    ``parameters`` (S, ...); so that every cell takes the steps that it takes by itself.
    """

    def __init__(self, parameters: Sequence[tuple[str, Tensor]], cells: Sequence[Cell]) -> None:
        self._stacks = [stack for _, stack in parameters]
        self._own: list[tuple[slice, list[Tensor]]] = []
        self.cells: list[StackOptimizer] = []
        first = 0
        for num_seeds, build in cells:
            seeds = slice(first, first + num_seeds)
            own: list[Tensor] = [nn.Parameter(stack.detach()[seeds]) for stack in self._stacks]
            names = (name for name, _ in parameters)
            self._own.append((seeds, own))
            self.cells.append(build([*zip(names, own, strict=True)]))
            first += num_seeds
        self.optimizers = [part for cell in self.cells for part in parts_of(cell)]
        self.param_groups = [group for part in self.optimizers for group in part.param_groups]

    def train(self) -> None:
        """See `set_mode`."""
        for cell in self.cells:
            set_mode(cell, training=True)

    def eval(self) -> None:
        """See `set_mode`."""
        for cell in self.cells:
            set_mode(cell, training=False)

    def wanted(self) -> list[Hutchinson]:
        """See `wanted`; cells whose optimizers want any are not put together."""
        return []

    def step(self, diagonals: Diagonals = NO_DIAGONALS) -> None:
        """Update every cell with its slices of the stacks' gradients."""
        for (seeds, own), cell in zip(self._own, self.cells, strict=True):
            for parameter, stack in zip(own, self._stacks, strict=True):
                parameter.grad = None if stack.grad is None else stack.grad[seeds]
            take_step(cell, diagonals)


StackOptimizer = Optimizer | SeedwiseOptimizer | JoinedOptimizer | CellwiseOptimizer
# How many seeds a cell has, and what makes the optimizer of their named stacks.
Cell = tuple[int, Callable[[Sequence[tuple[str, Tensor]]], StackOptimizer]]


def parts_of(optimizer: StackOptimizer) -> list[Optimizer]:
    """The optimizers that one of a stack consists of."""
    return [optimizer] if isinstance(optimizer, Optimizer) else optimizer.optimizers


def cells_of(optimizer: StackOptimizer) -> list[StackOptimizer]:
    """The optimizers of a stack that have rates of their own: one, or one for each cell."""
    return optimizer.cells if isinstance(optimizer, CellwiseOptimizer) else [optimizer]


def wanted(optimizer: StackOptimizer) -> list[Hutchinson]:
    """The estimates of the Hessian's diagonal that the next step wants: of most, none."""
    if isinstance(optimizer, Optimizer):
        request = curvature.wanted(optimizer)
        return [] if request is None else [request]
    return optimizer.wanted()


def take_step(optimizer: StackOptimizer, diagonals: Diagonals) -> None:
    """Let an optimizer take its step.

    Args:
        optimizer: Of stacks whose `.grad` holds their gradients.
        diagonals: What it `wanted`, by the stacks; what it has not asked for is not looked at.
    """
    if isinstance(optimizer, Optimizer):
        curvature.take_step(optimizer, diagonals)
    else:
        optimizer.step(diagonals)


def set_rate(optimizer: StackOptimizer, rate: float) -> None:
    """Set the learning rate of every group of parameters to the schedule's, or a multiple."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(RATE_SCALE, 1.0)


def set_others(optimizer: StackOptimizer, name: str, value: float | list[float]) -> None:
    """Set another setting of every group of parameters that has it, such as its betas."""
    for group in optimizer.param_groups:
        if name in group:
            group[name] = value


def set_mode(optimizer: StackOptimizer, training: bool) -> None:
    """Let an optimizer that tells training from evaluation put its weights in place for one.

    Schedule-free optimizers take gradients at one point and are scored at another, an average;
    those of `torch.optim` have no such modes. It may be told twice.
    """
    switch = getattr(optimizer, "train" if training else "eval", None)
    if callable(switch):
        switch()


def is_stackable(factory: Factory, axes: Collection[int] = (2, 1)) -> bool:
    """Tell whether an optimizer trains a stack of seeds as it would train every seed alone.

    Measured, not listed. A stack of two seeds, whose gradients differ a hundredfold, takes some
    steps. It does so again with other gradients of the second seed, which must not move the first
    by a bit; and so does each seed alone, as plain tensors such as (out, in) and (n,), or as a
    stack of one for an optimizer that declares ``reads_seed_axis``, to the same end but for
    rounding. False, too, if the optimizer raises: on stacks (Muon), on dense gradients
    (SparseAdam), without a closure (LBFGS). What it does after some 30 steps for the first time is
    not seen.

    Args:
        factory: Makes the optimizer of some tensors.
        axes: How many the parameters have, without the seeds'; a tensor is tried of each number.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, *[2] * num_axes)[:num_axes] for num_axes in sorted(axes, reverse=True)]
    sizes = [math.prod(shape) for shape in shapes]
    # The start, and gradients. RAdam rectifies only after the 5th step, Shampoo begins at the 25th.
    draws = torch.randn(31, 2, sum(sizes), generator=generator, dtype=torch.float64)
    # Those of a seed have a direction in common, or D-Adaptation and its like see no way to go.
    draws[1:] += torch.randn(draws[0].shape, generator=generator, dtype=torch.float64)
    draws[1:, 1] *= 100
    others = draws.clone()
    others[1:, 1] = -100 * draws[1:, 1].flip(0)

    def tensors_of(draw: Tensor) -> list[Tensor]:
        parts = zip(draw.split(sizes, -1), shapes, strict=True)
        return [part.reshape(*draw.shape[:-1], *shape) for part, shape in parts]

    def trained(draws: Tensor) -> tuple[Optimizer, Tensor]:
        start, *steps = map(tensors_of, draws)
        tensors: list[Tensor] = [nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = factory(list(tensors))
        set_mode(optimizer, training=True)
        for step, gradients in enumerate(steps):
            # As a schedule may: what SGDP does at small rates, Prodigy does at large ones.
            set_rate(optimizer, 1e-3 if step < len(steps) // 3 else 1.0)
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.grad = gradient.clone()
            # As Gauss and Newton have them, and so large that Sophia clips few entries of a step.
            estimates = [1e3 * gradient.square() for gradient in gradients]
            curvature.take_step(optimizer, dict(zip(tensors, estimates, strict=True)))
        set_mode(optimizer, training=False)
        flat = [tensor.detach().reshape(*draws.shape[1:-1], -1) for tensor in tensors]
        return optimizer, torch.cat(flat, -1)

    try:
        optimizer, stack = trained(draws)
        _, other = trained(others)
        keeps_axis = getattr(optimizer, "reads_seed_axis", False)
        seeds: list[Any] = [slice(0, 1), slice(1, 2)] if keeps_axis else [0, 1]
        alone = [trained(draws[:, seed])[1].flatten() for seed in seeds]
    except Exception:  # a refusal may be any error: ValueError, TypeError, RuntimeError, ...
        return False
    apart = torch.equal(stack[0], other[0])
    return apart and torch.allclose(stack, torch.stack(alone), rtol=1e-12, atol=1e-12)
