"""LARS and LAMB on stacks of seeds: every parameter is (S, ...), and norms are taken per seed."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optsweep.config.checks import InputError


class _Layerwise(Optimizer):
    """The part that LARS and LAMB share."""

    reads_seed_axis = True  # tells is_stackable that the first axis is known to be the seeds
    _update: Callable[[Tensor, Tensor, dict, dict], None]  # (weight, gradient, state, group)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        for name, value in defaults.items():
            if name not in ("betas", "adapt") and not value >= 0:  # NaN is refused as well
                raise InputError(f"{name} must be at least 0, got {value}")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return the loss of ``closure``, if any."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, self.state[weight], group)
        return loss


class LARS(_Layerwise):
    """Heavy-ball SGD whose steps are proportional to the norm of the weights, layer by layer.

    With w one layer of one seed, g its gradient, v its velocity, at first 0:

        rate = trust_coefficient * |w| / (|g| + weight_decay * |w|)
        v <- momentum * v + lr * rate * (g + weight_decay * w)
        w <- w - v

    Parameters are (S, ...), and norms run over all axes but the first. As in the paper, biases
    are adapted too, and v contains lr, which in ``torch.optim.SGD`` multiplies it. Where |w| or
    the denominator is zero, which the paper leaves open, rate = 1, a step of plain SGD. So it is
    in groups of parameters with adapt=False, where many leave biases and norms.

    Raises:
        InputError: If a setting is negative.

    Source: You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        others = {"trust_coefficient": trust_coefficient, "adapt": adapt}
        super().__init__(params, {**defaults, **others})

    def _update(self, weight: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        decay, weight_norm = group["weight_decay"], _norm_per_seed(weight)
        denominator = _norm_per_seed(gradient) + decay * weight_norm
        defined = (weight_norm != 0) & (denominator != 0) & group["adapt"]
        rate = torch.where(defined, group["trust_coefficient"] * weight_norm / denominator, 1.0)
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity = state["momentum_buffer"].mul_(group["momentum"])
        weight.sub_(velocity.add_(group["lr"] * rate * (gradient + decay * weight)))


class LAMB(_Layerwise):
    """Adam whose step has the length lr * |w|, layer by layer.

    With w one layer of one seed, g its gradient, beta1 and beta2 the betas, t = 1, 2, ...:

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * w
        w <- w - lr * |w| / |u| * u

    Parameters are (S, ...), and norms run over all axes but the first. The paper's phi is the
    identity: |w| is not clamped. Where |w| or |u| is zero, |w| / |u| is taken as 1, a step of
    Adam with decoupled weight decay; so it is in groups of parameters with adapt=False.

    Raises:
        InputError: If lr, eps or weight_decay is negative, or a beta is outside [0, 1).

    Source: You et al. 2019, arXiv:1904.00962, Algorithm 2 with bias correction.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        adapt: bool = True,
    ) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"betas must be two numbers in [0, 1), got {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "adapt": adapt})

    def _update(self, weight: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        beta1, beta2 = group["betas"]
        if not state:
            zeros = torch.zeros_like(weight)
            state.update(step=0, exp_avg=zeros, exp_avg_sq=zeros.clone())
        state["step"] += 1
        mean = state["exp_avg"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (square / (1 - beta2 ** state["step"])).sqrt() + group["eps"]
        update = mean / (1 - beta1 ** state["step"]) / root + group["weight_decay"] * weight
        weight_norm, update_norm = _norm_per_seed(weight), _norm_per_seed(update)
        defined = (weight_norm != 0) & (update_norm != 0) & group["adapt"]
        ratio = torch.where(defined, weight_norm / update_norm, 1.0)
        weight.sub_(group["lr"] * ratio * update)


def _norm_per_seed(tensor: Tensor) -> Tensor:
    """Euclidean norm over all axes but the first: (S, a, b) -> (S, 1, 1)."""
    return tensor.reshape(len(tensor), -1).norm(dim=1).reshape(-1, *[1] * (tensor.ndim - 1))
