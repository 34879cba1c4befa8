"""Optimizers on stacks of seeds, whose every parameter has a leading seed axis S.

LARS and LAMB; a probe for whether any other works on stacks; one per seed for those that do not.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Factory = Callable[[list[Tensor]], Optimizer]
_SWITCHES = {"foreach", "capturable", "differentiable", "fused", "maximize"}  # not worth listing


class _Layerwise(Optimizer):
    """The part that LARS and LAMB share."""

    reads_seed_axis = True  # tells is_stackable that the first axis is known to be the seeds
    _update: Callable[[Tensor, Tensor, dict, dict], None]  # (weight, gradient, state, group)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        for name, value in defaults.items():
            if name != "betas" and not value >= 0:  # NaN is refused as well
                raise ValueError(f"{name} must be at least 0, got {value}")
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
    the denominator is zero, which the paper leaves open, rate = 1, a step of plain SGD.

    Raises:
        ValueError: If a setting is negative.

    Source: You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "trust_coefficient": trust_coefficient})

    def _update(self, weight: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        decay, weight_norm = group["weight_decay"], _norm_per_seed(weight)
        denominator = _norm_per_seed(gradient) + decay * weight_norm
        defined = (weight_norm != 0) & (denominator != 0)
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
    Adam with decoupled weight decay.

    Raises:
        ValueError: If lr, eps or weight_decay is negative, or a beta is outside [0, 1).

    Source: You et al. 2019, arXiv:1904.00962, Algorithm 2 with bias correction.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

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
        defined = (weight_norm != 0) & (update_norm != 0)
        ratio = torch.where(defined, weight_norm / update_norm, 1.0)
        weight.sub_(group["lr"] * ratio * update)


class SeedwiseOptimizer:
    """One optimizer per seed, made by ``factory`` from the seed's tensors without the seed axis.

    They share memory with the leaf tensors ``parameters`` (S, ...), which a step thus changes.
    """

    def __init__(self, parameters: Sequence[Tensor], factory: Factory) -> None:
        self._stacks = list(parameters)
        stacks = (stack.detach() for stack in self._stacks)
        self._seeds = [[nn.Parameter(p) for p in seed] for seed in zip(*stacks, strict=True)]
        self._optimizers = [factory(list(seed)) for seed in self._seeds]
        self.param_groups = [group for each in self._optimizers for group in each.param_groups]

    def zero_grad(self) -> None:
        """Zero the stacks' gradients in place."""
        for stack in self._stacks:
            if stack.grad is not None:
                stack.grad.zero_()

    def step(self) -> None:
        """Update every seed with its slice of the stacks' gradients."""
        for stack, *seeds in zip(self._stacks, *self._seeds, strict=True):
            gradients = [None] * len(seeds) if stack.grad is None else stack.grad.unbind()
            for parameter, gradient in zip(seeds, gradients, strict=True):
                parameter.grad = gradient  # a view: nothing is copied
        for optimizer in self._optimizers:
            optimizer.step()


StackOptimizer = Optimizer | SeedwiseOptimizer


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
        for gradients in pairs[1:]:
            weight.grad, bias.grad = (gradient.clone() for gradient in gradients)
            optimizer.step()
        return optimizer, torch.cat([weight.flatten(-2), bias], -1).detach()

    try:
        optimizer, stack = trained(slice(None))
        keeps_axis = getattr(optimizer, "reads_seed_axis", False)
        alone = [trained(slice(seed, seed + 1) if keeps_axis else seed)[1] for seed in range(2)]
    except Exception:  # a refusal may be any error: ValueError, TypeError, RuntimeError, ...
        return False
    return torch.allclose(stack, torch.stack(alone).view_as(stack), rtol=1e-12, atol=1e-12)


def build_optimizer(
    parameters: Sequence[tuple[str, Tensor]],
    target: type[Optimizer],
    settings: Mapping[str, Any],
    decay_biases_and_norms: bool,
) -> StackOptimizer:
    """Build the optimizer of a stack, one per seed if it is not stackable.

    Args:
        parameters: Names and leaf tensors, (S, out, in) for weights and (S, n) for the others.
        target: The optimizer's class.
        settings: Its arguments but the first.
        decay_biases_and_norms: False: the weights, the first group, alone decay.

    Raises:
        ValueError: If the optimizer lacks a setting, refuses a value, or needs a closure.
    """
    check_settings(target, settings)
    closure = inspect.signature(target.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(f"optimizer {target.__name__} needs a closure; choose one without")

    def grouped(tensors: list[Tensor], weight_ndim: int) -> Optimizer:
        if decay_biases_and_norms or "weight_decay" not in inspect.signature(target).parameters:
            return target(tensors, **settings)
        groups: list[dict[str, Any]] = [{"params": []}, {"params": [], "weight_decay": 0.0}]
        for tensor in tensors:
            groups[tensor.ndim != weight_ndim]["params"].append(tensor)
        return target([group for group in groups if group["params"]], **settings)

    stacks = [tensor for _, tensor in parameters]
    if is_stackable(lambda tensors: target(tensors, **settings)):
        return grouped(stacks, weight_ndim=3)
    return SeedwiseOptimizer(stacks, lambda tensors: grouped(tensors, weight_ndim=2))


def check_settings(target: type[Optimizer], settings: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting that the optimizer's signature does not name.

    ``**kwargs`` do not count as names, for they would swallow a misspelt setting.

    >>> check_settings(LAMB, {"lr": 0.1, "momentum": 0.9})
    Traceback (most recent call last):
    ValueError: optimizer LAMB has no setting 'momentum'; it has: lr, betas, eps, weight_decay
    """
    arguments = inspect.signature(target).parameters.values()
    names = [argument.name for argument in arguments if argument.kind != argument.VAR_KEYWORD][1:]
    for name in settings:
        if name not in names:
            text = ", ".join(name for name in names if name not in _SWITCHES)
            raise ValueError(f"optimizer {target.__name__} has no setting {name!r}; it has: {text}")


def _norm_per_seed(tensor: Tensor) -> Tensor:
    """Euclidean norm over all axes but the first: (S, a, b) -> (S, 1, 1)."""
    return tensor.reshape(len(tensor), -1).norm(dim=1).reshape(-1, *[1] * (tensor.ndim - 1))
