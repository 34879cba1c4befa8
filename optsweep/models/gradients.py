"""The gradients of a loss, and estimates that need them with their graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor


class Estimate(Protocol):
    """Something of second derivatives that is wanted of some parameters of a stack."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Those of the stack, (S, *own axes)."""
        ...

    def diagonals(
        self,
        gradients: Sequence[Tensor],
        parameters: Sequence[Tensor],
        generators: Sequence[Generator],
    ) -> Sequence[Tensor]:
        """Make it of gradients with their graph.

        Args:
            gradients: Of a loss.
            parameters: By which it was differentiated: those of the stack, or one seed's of them.
            generators: From which each seed draws.

        Returns:
            Tensors in the shapes of the parameters.
        """
        ...


def backward(
    loss: Tensor,
    members: Mapping[Tensor, Tensor],
    estimates: Sequence[Estimate],
    generators: Sequence[Generator],
) -> dict[Tensor, Tensor]:
    """Add the gradients of a loss to its leaves' `.grad`, and estimate what is wanted.

    Args:
        loss: A number.
        members: Of every parameter of a stack its leaf: itself, or one seed's.
        estimates: What is wanted; leaves without a gradient are left out.
        generators: Of the seeds in the loss.

    Returns:
        By the parameters of the stack what was found of the leaves.
    """
    if not estimates:
        loss.backward()
        return {}
    trained = {stack: leaf for stack, leaf in members.items() if leaf.requires_grad}
    # `loss.backward` would tie each leaf and its gradient into a circle that keeps the graph.
    gradients = torch.autograd.grad(loss, [*trained.values()], create_graph=True, allow_unused=True)
    gradient_of = dict(zip(trained, gradients, strict=True))
    found: dict[Tensor, Tensor] = {}
    for estimate in estimates:
        pairs = [(each, gradient_of.get(each)) for each in estimate.parameters]
        known = [(stack, gradient) for stack, gradient in pairs if gradient is not None]
        wanted = [stack for stack, _ in known]
        of_wanted = [gradient for _, gradient in known]
        leaves = [members[stack] for stack in wanted]
        diagonals = estimate.diagonals(of_wanted, leaves, generators)
        found |= dict(zip(wanted, diagonals, strict=True))
    for stack, gradient in gradient_of.items():
        if gradient is not None:
            leaf = members[stack]
            own = gradient.detach()
            leaf.grad = own if leaf.grad is None else leaf.grad + own
    return found
