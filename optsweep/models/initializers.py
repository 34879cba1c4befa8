"""Initial weights of one layer of one seed: what `init` may name.

Every function fills `weight`, of two or more axes such as (out, in) or (out, in, height, width),
and `bias` (out,), which may be None, in place and draws from `generator` alone. Both arrive as
PyTorch's own layer would leave them, so an initialiser that does not touch the bias keeps
PyTorch's. Fan-in is torch's: the inputs of one output, in * height * width.
"""

from __future__ import annotations

import math

from torch import Generator, Tensor, nn

from optsweep.config.checks import InputError

# nn.Linear and nn.Conv2d reset their weights with this slope, which makes the bound
# 1 / sqrt(fan_in).
_RESET_SLOPE = math.sqrt(5)


def default(weight: Tensor, bias: Tensor | None, generator: Generator) -> None:
    """PyTorch's own reset: weight and bias uniform in ±1/sqrt(fan_in)."""
    nn.init.kaiming_uniform_(weight, a=_RESET_SLOPE, generator=generator)
    if bias is not None:
        bound = 1 / math.sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound, generator=generator)


def gaussian(weight: Tensor, bias: Tensor | None, generator: Generator, std: float = 0.01) -> None:
    """Weights N(0, std²), biases 0.

    Raises:
        InputError: If std is negative.
    """
    if std < 0:
        raise InputError(f"init.std={std}: expected a number >= 0")
    nn.init.normal_(weight, std=std, generator=generator)
    _zero(bias)


def xavier(weight: Tensor, bias: Tensor | None, generator: Generator) -> None:
    """Weights uniform in ±sqrt(6 / (fan_in + fan_out)), biases left (Glorot & Bengio 2010)."""
    del bias
    nn.init.xavier_uniform_(weight, generator=generator)


def kaiming(weight: Tensor, bias: Tensor | None, generator: Generator) -> None:
    """Weights N(0, 2 / fan_in), biases 0 (He et al. 2015, arXiv:1502.01852)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    _zero(bias)


def orthogonal(weight: Tensor, bias: Tensor | None, generator: Generator) -> None:
    """Orthogonal weights times sqrt(2), biases 0 (Saxe et al. 2014, arXiv:1312.6120).

    The rows of a convolution are its outputs, (out, in * height * width).
    """
    nn.init.orthogonal_(weight, gain=math.sqrt(2), generator=generator)
    _zero(bias)


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
