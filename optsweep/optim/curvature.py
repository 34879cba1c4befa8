"""Optimizers that divide by the Hessian's diagonal, such as Sophia: who estimates it, and when.

They estimate it themselves in a plain script that keeps the graph of the gradients. On a stack
the graph belongs to all seeds, and the noise of each comes from its own generator; so it is
estimated here, in the steps and with the draws of such a script, and given to the optimizer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

# Of a step: what the optimizer is given. Of its class: how often, and from what noise.
_GIVEN = "hessian"
_SETTINGS = {"update_period", "num_samples", "hessian_distribution"}
# Parameter -> an estimate of the Hessian's diagonal, of the parameter's shape.
Diagonals = Mapping[Tensor, Tensor]
NO_DIAGONALS: Diagonals = MappingProxyType({})


def takes_curvature(target: type[Optimizer]) -> bool:
    """Tell whether a class divides by the Hessian's diagonal."""
    return _GIVEN in inspect.signature(target.step).parameters


def tells_its_noise(target: type[Optimizer]) -> bool:
    """Tell whether such a class has the settings that `Hutchinson` follows."""
    return inspect.signature(target).parameters.keys() >= _SETTINGS


@dataclass(frozen=True)
class Hutchinson:
    """An estimate of the Hessian's diagonal that an optimizer wants for its next step.

    With z noise of mean 0 and variance 1 and H the Hessian, the mean of z * (H z) is diag(H).

    Attributes:
        parameters: Of which, in the order of the optimizer's groups: that of a script's draws.
        num_samples: Draws of z that are averaged.
        distribution: Of z's entries: gaussian or rademacher (-1 or 1).

    Source: Bekas, Kokiopoulou & Saad 2007, doi:10.1016/j.apnum.2007.01.003, after Hutchinson.
    """

    parameters: Sequence[Tensor]
    num_samples: int
    distribution: str

    def diagonals(
        self,
        gradients: Sequence[Tensor],
        parameters: Sequence[Tensor],
        generators: Sequence[Generator],
    ) -> list[Tensor]:
        """Differentiate the gradients of a loss once more.

        Args:
            gradients: With their graph.
            parameters: Leaves of that graph: (S, *own axes), or those of one seed.
            generators: Of the S seeds, or of that one.

        Returns:
            The estimates, in the shapes of the parameters.
        """
        totals = [torch.zeros_like(parameter) for parameter in parameters]
        # The gradient of a linear loss has no graph, and a second derivative of 0.
        curved = [place for place, gradient in enumerate(gradients) if gradient.requires_grad]
        for _ in range(self.num_samples if curved else 0):
            noise = [self._draw(parameter, generators) for parameter in parameters]
            products = torch.autograd.grad(
                [gradients[place] for place in curved],
                parameters,
                [noise[place] for place in curved],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for total, product, z in zip(totals, products, noise, strict=True):
                total.addcmul_(product, z, value=1 / self.num_samples)
        return totals

    def _draw(self, parameter: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Noise in a parameter's shape, of each seed from its own generator."""
        noise = torch.empty_like(parameter.detach())
        shares = noise.unbind() if len(generators) > 1 else [noise]
        for share, generator in zip(shares, generators, strict=True):
            if self.distribution == "gaussian":
                share.normal_(generator=generator)
            else:
                share.random_(0, 2, generator=generator).mul_(2).sub_(1)
        return noise


def wanted(optimizer: Optimizer) -> Hutchinson | None:
    """The estimate that an optimizer wants for its next step; None: that step needs none."""
    if not takes_curvature(type(optimizer)):
        return None
    done = optimizer.param_groups[0].get("step", 0)
    if done % optimizer.update_period:  # type: ignore[attr-defined]
        return None
    parameters = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    return Hutchinson(parameters, optimizer.num_samples, optimizer.distribution)  # type: ignore[attr-defined]


def take_step(optimizer: Optimizer, diagonals: Diagonals) -> None:
    """Let an optimizer take its step, with the estimates if it wants them.

    It wants one of every parameter that has a gradient, and does not read that of another.
    """
    request = wanted(optimizer)
    if request is None:
        optimizer.step()
        return
    of_all = [
        torch.zeros_like(tensor) if tensor.grad is None else diagonals[tensor]
        for tensor in request.parameters
    ]
    optimizer.step(hessian=of_all)  # type: ignore[call-overload]
