"""Networks as stacks of seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from optsweep.config.schema import MLPConfig, ModuleConfig
from optsweep.models.mlp import StackedMLP

Initializer = Callable[[Tensor, Tensor, Generator], None]


def build_stack(
    model: MLPConfig | ModuleConfig,
    initializer: Initializer,
    seeds: Sequence[int],
    input_shape: tuple[int, ...],
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Build."""
    assert isinstance(model, MLPConfig)
    return StackedMLP(model, seeds, initializer, math.prod(input_shape), num_classes, device, dtype)
