"""A penalty on the weights as a term of the loss, to hold optimizers' weight decay against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from optsweep.config.checks import InputError


class L2Adam(torch.optim.Adam):
    """Adam of the loss and l2 / 2 * |w|², whose gradient autograd adds to that of the loss.

    What `torch.optim.Adam(weight_decay=l2)` adds to the gradient by hand, and what
    `torch.optim.AdamW` does not do: its decay is no part of what the moments are taken of.

    Raises:
        InputError: If l2 is negative.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
    ) -> None:
        if not l2 >= 0:  # NaN is refused as well
            raise InputError(f"l2 must be at least 0, got {l2}")
        super().__init__(params, lr, betas, eps)
        self.l2 = l2

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Add the penalty's gradient, then take Adam's step."""
        for group in self.param_groups:
            for weight in group["params"]:
                with torch.enable_grad():
                    (self.l2 / 2 * weight.square().sum()).backward()
        return super().step(closure)
