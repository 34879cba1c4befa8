"""Update rules of the compiled engine: an optimizer as constants and a table of coefficients.

With gradient g (L2 weight decay added), every rule is one of

    m <- a1 m + g                       w <- w - (cm m + cg g)

    m <- a1 m + b1 g,  v <- a2 v + b2 g²,  u <- max(u, v)
    w <- shrink w - (cm m + cg g) / (cv sqrt(v or u) + eps)

where shrink, cm, cg, cv and eps may differ from step to step. A moment that a rule lacks is
not stored. Each rule follows its class in `torch.optim`. LARS and LAMB, whose steps depend on
norms of whole layers, are steps of their own in `updates`; they have the same constants and table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from optsweep.optim.layerwise import LAMB, LARS

LARS_STEP, LAMB_STEP = 1, 2  # of `Rule.layerwise`

# (steps,) learning rates, (steps,) step numbers from 1 -> shrink, cm, cg, cv, eps
Coefficients = Callable[[np.ndarray, np.ndarray], tuple[Any, ...]]


@dataclass(frozen=True)
class Rule:
    """An optimizer in the form above.

    Attributes:
        constants: a1, b1, a2, b2.
        moments: Whether m, v and u are kept.
        coefficients: The columns of the table.
        l2: Weight decay that is added to the gradient.
        layerwise: `LARS_STEP` or `LAMB_STEP`, 0 for all others.
    """

    constants: tuple[float, float, float, float]
    moments: tuple[bool, bool, bool]
    coefficients: Coefficients
    l2: float = 0.0
    layerwise: int = 0

    def loop(self, batch_size: int) -> str:
        """Which loop takes the steps: that of `deferred`, `singles` or `batches`.

        Deferred are rules that are linear in weights, moments and gradient, SGD in all its forms.
        An epoch of plain SGD took 0.42 instead of 0.49 s at batch size 8, of momentum 0.63 instead
        of 0.81 s at 4; at twice these it took longer.
        """
        has_first, has_second, _ = self.moments
        if not has_second and not self.layerwise and batch_size <= (4 if has_first else 8):
            return "deferred"
        if has_second and not self.layerwise and batch_size == 1 and self.l2 == 0:
            return "singles"
        return "batches"

    def table(self, rates: np.ndarray, steps_before: int) -> np.ndarray:
        """Coefficients (steps, 5) of the steps after `steps_before`, at learning `rates`."""
        steps = np.arange(steps_before + 1, steps_before + len(rates) + 1, dtype=np.float64)
        columns = self.coefficients(rates, steps)
        return np.stack([np.broadcast_to(column, len(rates)) for column in columns], axis=1)


def rule_of(target: type[torch.optim.Optimizer], settings: Mapping[str, Any]) -> Rule | None:
    """The rule of an optimizer with these settings, or None if it has none."""
    make, known = _RULES.get(target, (None, ()))
    if make is None or not set(settings) <= {"lr", "weight_decay", *known}:
        return None
    return make(**{key: value for key, value in settings.items() if key != "lr"})


def _sgd(momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> Rule:
    def coefficients(lr: np.ndarray, t: np.ndarray) -> tuple[Any, ...]:
        return 1, lr * (momentum if nesterov else 1), lr * (nesterov or momentum == 0), 0, 0

    return Rule(
        constants=(momentum, 1, 0, 0),
        moments=(momentum != 0, False, False),
        coefficients=coefficients,
        l2=weight_decay,
    )


def _adam(
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    decoupled: bool = False,
) -> Rule:
    beta1, beta2 = betas

    def coefficients(lr: np.ndarray, t: np.ndarray) -> tuple[Any, ...]:
        shrink = 1 - lr * weight_decay if decoupled else 1
        return shrink, lr / (1 - beta1**t), 0, 1 / np.sqrt(1 - beta2**t), eps

    return Rule(
        constants=(beta1, 1 - beta1, beta2, 1 - beta2),
        moments=(True, True, amsgrad),
        coefficients=coefficients,
        l2=0.0 if decoupled else weight_decay,
    )


def _adamw(weight_decay: float = 1e-2, **settings: Any) -> Rule:
    return _adam(weight_decay=weight_decay, decoupled=True, **settings)


def _nadam(
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
) -> Rule:
    beta1, beta2 = betas

    def coefficients(lr: np.ndarray, t: np.ndarray) -> tuple[Any, ...]:
        # Momentum warms up, and each step divides by the product of all momenta so far.
        every = np.arange(1, t[-1] + 2)
        momenta = beta1 * (1 - 0.5 * 0.96 ** (every * momentum_decay))
        products = np.cumprod(momenta)
        now = np.s_[int(t[0]) - 1 : int(t[-1])]
        following = np.s_[int(t[0]) : int(t[-1]) + 1]
        take_first = lr * momenta[following] / (1 - products[following])
        take_gradient = lr * (1 - momenta[now]) / (1 - products[now])
        return 1, take_first, take_gradient, 1 / np.sqrt(1 - beta2**t), eps

    return Rule(
        constants=(beta1, 1 - beta1, beta2, 1 - beta2),
        moments=(True, True, False),
        coefficients=coefficients,
        l2=weight_decay,
    )


def _radam(
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> Rule:
    beta1, beta2 = betas

    def coefficients(lr: np.ndarray, t: np.ndarray) -> tuple[Any, ...]:
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        rectified = length > 5
        numerator = (length - 4) * (length - 2) * longest
        denominator = (longest - 4) * (longest - 2) * length
        scale = np.sqrt(np.where(rectified, numerator / denominator, 0) * (1 - beta2**t))
        take_first = lr / (1 - beta1**t) * np.where(rectified, scale, 1)
        return 1, take_first, 0, rectified, np.where(rectified, eps, 1)

    return Rule(
        constants=(beta1, 1 - beta1, beta2, 1 - beta2),
        moments=(True, True, False),
        coefficients=coefficients,
        l2=weight_decay,
    )


def _rmsprop(
    alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0
) -> Rule | None:
    if momentum:
        return None  # its momentum runs over steps, not over gradients
    return Rule(
        constants=(0, 0, alpha, 1 - alpha),
        moments=(False, True, False),
        coefficients=lambda lr, t: (1, 0, lr, 1, eps),
        l2=weight_decay,
    )


def _adagrad(eps: float = 1e-10, weight_decay: float = 0.0, lr_decay: float = 0.0) -> Rule:
    return Rule(
        constants=(0, 0, 1, 1),
        moments=(False, True, False),
        coefficients=lambda lr, t: (1, 0, lr / (1 + (t - 1) * lr_decay), 1, eps),
        l2=weight_decay,
    )


def _lars(
    momentum: float = 0.9, weight_decay: float = 0.0, trust_coefficient: float = 0.001
) -> Rule:
    return Rule(
        constants=(momentum, trust_coefficient, 0, 0),
        moments=(True, False, False),
        coefficients=lambda lr, t: (1, 0, lr, 0, 0),
        l2=weight_decay,
        layerwise=LARS_STEP,
    )


def _lamb(
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.0
) -> Rule:
    beta1, beta2 = betas
    return Rule(
        constants=(beta1, 1 - beta1, beta2, 1 - beta2),
        moments=(True, True, False),
        coefficients=lambda lr, t: (1, 1 / (1 - beta1**t), lr, 1 / np.sqrt(1 - beta2**t), eps),
        l2=weight_decay,
        layerwise=LAMB_STEP,
    )


_ADAM = ("betas", "eps", "amsgrad")
# Optimizer -> its rule, and the settings besides lr and weight_decay that the rule knows.
_RULES: dict[type, tuple[Callable[..., Rule | None], tuple[str, ...]]] = {
    torch.optim.SGD: (_sgd, ("momentum", "nesterov")),
    torch.optim.Adam: (_adam, _ADAM),
    torch.optim.AdamW: (_adamw, _ADAM),
    torch.optim.NAdam: (_nadam, ("betas", "eps", "momentum_decay")),
    torch.optim.RAdam: (_radam, ("betas", "eps")),
    torch.optim.RMSprop: (_rmsprop, ("alpha", "eps", "momentum")),
    torch.optim.Adagrad: (_adagrad, ("eps", "lr_decay")),
    LARS: (_lars, ("momentum", "trust_coefficient")),
    LAMB: (_lamb, ("betas", "eps")),
}
