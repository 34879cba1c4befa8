"""optsweep: which optimizer, schedule, initialisation and batch size train a network best."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__version__ = "0.1.0"


def load(
    directory: str | PathLike[str],
    seed: int | None = None,
    epoch: int | None = None,
    allow_targets: Sequence[str] = (),
) -> nn.Module:
    """The network that a cell has kept, ready to be evaluated; see `trainer.keep_weights`.

    Args:
        directory: Of the cell.
        seed: One of its seeds; None: all of them, as an `nn.ModuleList` whose call stacks what
            its networks give.
        epoch: After which epoch; None: the last one kept.
        allow_targets: Packages of yours whose networks the cell's configuration may name.

    Returns:
        From images (N, *input_shape), as the cell's data have them (bytes divided by 255), to
        logits (N, classes) of one seed or (S, N, classes) of all.

    Raises:
        InputError: If it has kept no such weights, or they cannot be read.
    """
    from optsweep.training.loading import load_networks  # noqa: PLC0415 (PyTorch)

    return load_networks(directory, seed, epoch, allow_targets)
