"""Any optimizer on stacks of seeds: does it treat seeds apart? If not, one for each seed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Factory = Callable[[list[Tensor]], Optimizer]


class SeedwiseOptimizer:
    """One optimizer per seed, made by ``factory`` from the seed's tensors without the seed axis.

    They share memory with the leaf tensors ``parameters`` (S, ...), which a step thus changes.
    """

    def __init__(self, parameters: Sequence[Tensor], factory: Factory) -> None:
        self._stacks = list(parameters)
        stacks = (stack.detach() for stack in self._stacks)
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

    def step(self) -> None:
        """Update every seed with its slice of the stacks' gradients."""
        for stack, *seeds in zip(self._stacks, *self._seeds, strict=True):
            gradients = [None] * len(seeds) if stack.grad is None else stack.grad.unbind()
            for parameter, gradient in zip(seeds, gradients, strict=True):
                parameter.grad = gradient  # a view: nothing is copied
        for optimizer in self.optimizers:
            optimizer.step()


StackOptimizer = Optimizer | SeedwiseOptimizer


def set_mode(optimizer: StackOptimizer, training: bool) -> None:
    """Let an optimizer that tells training from evaluation put its weights in place for one.

    Schedule-free optimizers take gradients at one point and are scored at another, an average;
    those of `torch.optim` have no such modes. It may be told twice.
    """
    switch = getattr(optimizer, "train" if training else "eval", None)
    if callable(switch):
        switch()


def is_stackable(factory: Factory) -> bool:
    """Tell whether an optimizer trains a stack of seeds as it would train every seed alone.

    Measured, not listed: a stack of two seeds, whose gradients differ a hundredfold, takes a few
    steps, and so does each seed alone, as plain tensors (out, in) and (n,), or as a stack of one
    for an optimizer that declares ``reads_seed_axis``. False if the parameters then differ by
    more than rounding, or if the optimizer raises: on stacks (Muon), on dense gradients
    (SparseAdam), without a closure (LBFGS).
    """
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(9, 2, 15, generator=generator, dtype=torch.float64)  # start, 8 gradients
    draws[1:, 1] *= 100  # 8, for RAdam rectifies only after the 5th step

    def trained(seed: int | slice) -> tuple[Optimizer, Tensor]:
        pairs = [(draw[..., :12].unflatten(-1, (3, 4)), draw[..., 12:]) for draw in draws[:, seed]]
        weight, bias = (nn.Parameter(tensor.clone()) for tensor in pairs[0])
        optimizer = factory([weight, bias])
        set_mode(optimizer, training=True)
        for gradients in pairs[1:]:
            weight.grad, bias.grad = (gradient.clone() for gradient in gradients)
            optimizer.step()
        set_mode(optimizer, training=False)
        return optimizer, torch.cat([weight.flatten(-2), bias], -1).detach()

    try:
        optimizer, stack = trained(slice(None))
        keeps_axis = getattr(optimizer, "reads_seed_axis", False)
        alone = [trained(slice(seed, seed + 1) if keeps_axis else seed)[1] for seed in range(2)]
    except Exception:  # a refusal may be any error: ValueError, TypeError, RuntimeError, ...
        return False
    return torch.allclose(stack, torch.stack(alone).view_as(stack), rtol=1e-12, atol=1e-12)
