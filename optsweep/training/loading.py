"""The networks of a cell that is done, from the weights that it has kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config, MLPConfig
from optsweep.config.targets import allow_targets
from optsweep.models.constructor import constructor
from optsweep.models.mlp import MLP
from optsweep.training.checkpoints import Snapshot, read


class Networks(nn.ModuleList):
    """One network for each seed of a cell."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (S, N, classes) of images (N, *input_shape), which all networks see."""
        return torch.stack([network(images) for network in self])


def load_networks(
    directory: str | PathLike[str], seed: int | None, epoch: int | None, allowed: Sequence[str]
) -> nn.Module:
    """See `optsweep.load`."""
    folder = Path(directory)
    config, kept = runs.read_config(folder), runs.kept_epochs(folder)
    if not kept or (epoch is not None and epoch not in kept):
        there = f"those of epochs {', '.join(map(str, kept))}" if kept else "none"
        raise InputError(
            f"{folder}: these weights were not kept, but {there}; see trainer.keep_weights"
        )
    path = runs.weights_file(folder, kept[-1] if epoch is None else epoch)
    snapshot, _ = read(path)
    if snapshot.cell != config_hash(config):
        raise InputError(f"{path} is of another cell than {folder / runs.CONFIG_FILE} tells of")
    seeds = list(config.seeds) if seed is None else [seed]
    if seed is not None and seed not in config.seeds:
        last = config.seeds[-1]
        raise InputError(f"seed={seed}: {folder} has seeds {config.seeds[0]} to {last}")
    if allowed:
        allow_targets(allowed)
    networks = [build_network(config, snapshot, config.seeds.index(each)) for each in seeds]
    return Networks(networks).eval() if seed is None else networks[0]


def build_network(config: Config, snapshot: Snapshot, index: int) -> nn.Module:
    """The network of one seed of a snapshot, ready to be evaluated."""
    shape, num_classes = config.dataset.input_shape, config.dataset.num_classes
    network: nn.Module
    with torch.random.fork_rng(devices=[]):  # what it draws is replaced
        if isinstance(config.model, MLPConfig):
            model = config.model
            network = MLP(
                math.prod(shape),
                num_classes,
                model.hidden_sizes,
                model.layernorm_position,
                model.layernorm_placement,
                model.dropout,
            )
        else:
            network = constructor(config.model, shape, num_classes)()
    own = dict([*network.named_parameters(), *network.named_buffers()])
    with torch.no_grad():
        for name, tensor in snapshot.tensors.items():
            own[name].data = tensor[index].clone()
    return network.eval()
