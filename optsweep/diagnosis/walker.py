"""The optimizer as it stands at a checkpoint: what it does with a gradient, at a rate of choice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from optsweep.diagnosis.subject import Shapes, split
from optsweep.optim import states
from optsweep.optim.curvature import Hutchinson
from optsweep.optim.stacks import StackOptimizer, set_mode, set_rate, take_step, wanted

Curvature = Callable[[Hutchinson], Tensor]  # the estimate that is wanted, (P,)
Build = Callable[[Sequence[tuple[str, Tensor]]], StackOptimizer]


@dataclass(frozen=True)
class Method:
    """How a point is trained.

    Attributes:
        build: Makes the optimizer of named leaf tensors (1, *own axes): a stack of one.
        target: Its class.
        arguments: Its arguments.
        lr: Learning rate at the checkpoint.
        batch_size: Examples of a step.
        state: What it has gathered; None: nothing yet.
    """

    build: Build
    target: type
    lr: float
    batch_size: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    state: states.State | None = None


class Walker:
    """A point (P,) and its optimizer, which moves it in place."""

    def __init__(self, method: Method, point: Tensor, shapes: Shapes) -> None:
        """Begin at `point`, which is not changed, with the method's state."""
        self.point = point.detach().clone()
        self._shapes = shapes
        self._method = replace(method, state=None)
        self._leaves = [
            (name, view.unsqueeze(0).detach().requires_grad_())
            for name, view in split(self.point, shapes)
        ]
        self._optimizer = method.build(self._leaves)
        self.has_state = method.state is not None and states.restore(
            self._optimizer, copy.deepcopy(method.state)
        )
        set_mode(self._optimizer, training=True)
        self.set_rate(method.lr)

    def set_rate(self, lr: float) -> None:
        """Take steps at another learning rate."""
        set_rate(self._optimizer, lr)

    def copy(self) -> Walker:
        """Another one that stands where this one does and goes its own way."""
        if isinstance(self._optimizer, torch.optim.Optimizer):
            other = copy.deepcopy(self)  # whose tensors share their memory as these do
            for key, setting in vars(self._optimizer).items():
                # Of an optimizer torch copies no more than its groups and its state.
                vars(other._optimizer).setdefault(key, copy.deepcopy(setting))
            return other
        return Walker(replace(self._method, state=self.state()), self.point, self._shapes)

    def step(
        self, gradient: Tensor, without: Tensor | None = None, curvature: Curvature | None = None
    ) -> None:
        """Take one step.

        Args:
            gradient: (P,).
            without: Orthonormal rows (k, P), along which the point does not move.
            curvature: Asked for the Hessian's diagonal if the optimizer wants it.
        """
        before = self.point.clone() if without is not None else None
        for leaf, of_leaf in self._of_leaves(gradient):
            leaf.grad = of_leaf
        diagonals: dict[Tensor, Tensor] = {}
        if curvature is not None:
            for request in wanted(self._optimizer):
                diagonals |= self._of_leaves(curvature(request))
        take_step(self._optimizer, diagonals)
        for _, leaf in self._leaves:
            leaf.grad = None
        if without is not None and before is not None:
            moved = self.point - before
            self.point -= (without @ moved) @ without

    def update(self, gradient: Tensor, curvature: Curvature | None = None) -> Tensor:
        """What a step with this gradient would add to the point; it is not taken."""
        other = self.copy()
        other.step(gradient, curvature=curvature)
        return other.point - self.point

    def _of_leaves(self, vector: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The optimizer's tensors (1, *own axes), and what of a vector (P,) is of them."""
        for (_, leaf), (_, piece) in zip(self._leaves, split(vector, self._shapes), strict=True):
            yield leaf, piece.unsqueeze(0)

    def state(self) -> states.State:
        """What the optimizer has gathered, on its own."""
        return copy.deepcopy(states.state_of(self._optimizer))

    def preconditioner(self) -> Tensor | None:
        """What Adam divides its momentum by, (P,); None for an optimizer without one.

        With v the second moment, sqrt(v / (1 - beta2^t)) + eps, times 1 - beta1^t, which goes
        to 1 soon.
        """
        (*_, group) = self._optimizer.param_groups
        if "betas" not in group or not isinstance(self._optimizer, torch.optim.Optimizer):
            return None
        pieces = []
        for _, leaf in self._leaves:
            state = self._optimizer.state.get(leaf, {})
            moment = state.get("max_exp_avg_sq", state.get("exp_avg_sq"))
            count = float(state.get("step", 0))
            if moment is None or not count:  # before the first step it has gathered nothing
                return None
            beta1, beta2 = group["betas"][:2]
            root = (moment / (1 - beta2**count)).sqrt() + group["eps"]
            pieces.append((root * (1 - beta1**count)).flatten())
        return torch.cat(pieces)


def stability_limit(method: Method) -> float | None:
    """The sharpness at which full-batch steps of this rate begin to grow; None if not known.

    For gradient descent 2 / lr; heavy ball with coefficient b, 2 (1 + b) / lr; Nesterov's,
    2 (1 + b) / ((1 + 2 b) lr); Adam, of the preconditioned Hessian, (2 + 2 b) / ((1 - b) lr).
    Weight decay in the gradient adds to every eigenvalue and is taken off.

    Source: Cohen et al. 2021, arXiv:2103.00065, and 2022, arXiv:2207.14484.

    >>> rate = {"build": list, "lr": 0.1, "batch_size": 1}
    >>> stability_limit(Method(target=torch.optim.SGD, arguments={"momentum": 0.5}, **rate))
    30.0
    >>> round(stability_limit(Method(target=torch.optim.Adam, **rate)), 9)
    380.0
    """
    arguments, lr = method.arguments, method.lr
    if lr <= 0:
        return None
    if method.target is torch.optim.SGD:
        beta = float(arguments.get("momentum", 0.0))
        limit = 2 * (1 + beta) / lr
        if arguments.get("nesterov"):
            limit /= 1 + 2 * beta
        return limit - float(arguments.get("weight_decay", 0.0))
    if method.target in (torch.optim.Adam, torch.optim.AdamW):
        beta = float(arguments.get("betas", (0.9, 0.999))[0])
        return (2 + 2 * beta) / ((1 - beta) * lr)
    return None


def smallest_limit(method: Method) -> float | None:
    """The limit for the sharpness of small batches: momentum's is 2 (1 - b) / lr there.

    Source: arXiv:2412.20553 (no momentum) and arXiv:2604.14108.
    """
    limit = stability_limit(method)
    if limit is None or method.target is not torch.optim.SGD:
        return limit
    beta = float(method.arguments.get("momentum", 0.0))
    return min(limit, 2 * (1 - beta) / method.lr)


class Batches:
    """Which examples each step sees, the same for all forks; shuffled anew when all were seen."""

    def __init__(self, num_examples: int, seed: int) -> None:
        """Draw from `num_examples` examples, in an order that `seed` decides."""
        self._num_examples = num_examples
        self._seed = seed
        self._orders: dict[int, Tensor] = {}

    def at(self, step: int, batch_size: int) -> Tensor:
        """The examples of a step (0-based), at most all of them."""
        if batch_size >= self._num_examples:
            return torch.arange(self._num_examples)
        at, end = step * batch_size, (step + 1) * batch_size
        pieces: list[Tensor] = []
        while at < end:
            cycle, offset = divmod(at, self._num_examples)
            pieces.append(self._order(cycle)[offset : offset + end - at])
            at += len(pieces[-1])
        return torch.cat(pieces)

    def _order(self, cycle: int) -> Tensor:
        if cycle not in self._orders:
            generator = torch.Generator().manual_seed(self._seed + 7919 * cycle)
            self._orders[cycle] = torch.randperm(self._num_examples, generator=generator)
        return self._orders[cycle]
