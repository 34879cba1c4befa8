"""Initial weights of one linear layer of one seed.

Every function fills `weight` (out, in) and `bias` (out,) in place and draws from
`generator` alone. Both arrive as PyTorch's own `nn.Linear` would leave them, so an
initialiser that does not touch the bias keeps PyTorch's.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

# nn.Linear resets its weights with this slope, which makes the bound 1 / sqrt(fan_in).
_LINEAR_SLOPE = math.sqrt(5)


def default(weight: Tensor, bias: Tensor, generator: Generator) -> None:
    """PyTorch's own reset: weight and bias uniform in ±1/sqrt(fan_in)."""
    nn.init.kaiming_uniform_(weight, a=_LINEAR_SLOPE, generator=generator)
    bound = 1 / math.sqrt(weight.shape[1])
    nn.init.uniform_(bias, -bound, bound, generator=generator)


def gaussian(weight: Tensor, bias: Tensor, generator: Generator, std: float = 0.01) -> None:
    """Weights N(0, std²), biases 0.

    Raises:
        ValueError: If std is negative.
    """
    if std < 0:
        raise ValueError(f"init.std={std}: expected a number >= 0")
    nn.init.normal_(weight, std=std, generator=generator)
    nn.init.zeros_(bias)


def xavier(weight: Tensor, bias: Tensor, generator: Generator) -> None:
    """Weights uniform in ±sqrt(6 / (fan_in + fan_out)), biases left (Glorot & Bengio 2010)."""
    del bias
    nn.init.xavier_uniform_(weight, generator=generator)


def kaiming(weight: Tensor, bias: Tensor, generator: Generator) -> None:
    """Weights N(0, 2 / fan_in), biases 0 (He et al. 2015, arXiv:1502.01852)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(bias)


def orthogonal(weight: Tensor, bias: Tensor, generator: Generator) -> None:
    """Orthogonal weights times sqrt(2), biases 0 (Saxe et al. 2014, arXiv:1312.6120)."""
    nn.init.orthogonal_(weight, gain=math.sqrt(2), generator=generator)
    nn.init.zeros_(bias)


def generator_of(seed: int) -> torch.Generator:
    """The generator that the initial weights of one seed are drawn from.

    It starts as `torch.manual_seed(seed)` would, and layers draw in the order of
    `nn.Sequential`, so seed s has the weights that a plain PyTorch script with seed s has.
    """
    return torch.Generator().manual_seed(seed)
