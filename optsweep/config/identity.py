"""The name of a cell's directory: a readable label and a hash of all that decides the result."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from optsweep.config.schema import Config

MAX_LABEL_LENGTH = 80
_MAX_DIGITS = 9  # a search proposes values of seventeen; the hash tells these apart

# Keys that say how fast the work goes, not what comes out.
_IRRELEVANT = {"trainer": ("num_threads",)}
# What a module was called when the first cells were named: that code moves to another room does
# not change what a cell is.
_FORMER_MODULES = {
    "optsweep.models.initializers": "optsweep.initializers",
    "optsweep.optim.optimizers": "optsweep.optimizers",
    "optsweep.optim.schedules": "optsweep.schedules",
}
# Settings of an optimizer that a label leaves out at these values.
_UNREMARKABLE = {
    "momentum": 0.0,
    "betas": [0.9, 0.999],
    "nesterov": False,
    "weight_decay": 0.0,
    "decay_biases_and_norms": True,
}


def config_hash(config: Config) -> str:
    """Ten hexadecimal digits of the SHA-256 of everything that decides the result."""
    values = config.to_mapping()
    values["dataset"] = config.dataset.deciding_values()
    for group, keys in _IRRELEVANT.items():
        for key in keys:
            del values[group][key]
    if not config.stopping:
        del values["stopping"]  # a rule that asks for nothing is as good as none
    for group in ("init", "optimizer", "scheduler"):
        values[group]["_target_"] = _lasting(values[group]["_target_"])
    text = json.dumps(_numbers_alike(values), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _lasting(target: str) -> str:
    """A dotted path as it stood when the first cells were named.

    >>> _lasting("optsweep.models.initializers.gaussian"), _lasting("torch.optim.Adam")
    ('optsweep.initializers.gaussian', 'torch.optim.Adam')
    """
    module, _, name = target.rpartition(".")
    return f"{_FORMER_MODULES.get(module, module)}.{name}"


def _numbers_alike(value: Any) -> Any:
    """The same with every number as a float, for 1 and 1.0 train the same."""
    if isinstance(value, dict):
        return {key: _numbers_alike(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers_alike(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def label(config: Config) -> str:
    """Name what differs from the default cell, in a fixed order, in at most 80 characters.

    >>> label(Config())
    'default'
    """
    text = "-".join(_pieces(config)) or "default"
    return re.sub(r"[^\w.+-]", "_", text)[:MAX_LABEL_LENGTH].rstrip("-")


def cell_name(config: Config) -> str:
    """`<label>_<hash>`, the name of the cell's directory."""
    return f"{label(config)}_{config_hash(config)}"


def _pieces(config: Config) -> list[str]:
    default = Config()
    pieces = []
    if config.dataset.name != default.dataset.name:
        pieces.append(config.dataset.name)
    if config.init != default.init:
        pieces.append(_short(config.init["_target_"]))
    pieces += _optimizer_pieces(config, default)
    if config.scheduler != default.scheduler:
        base_lr = config.scheduler.get("base_lr", "")
        pieces.append(_short(config.scheduler["_target_"]) + str(base_lr and f"_from_{base_lr:g}"))
        if config.scheduler["interval"] != "epoch":
            pieces.append(f"per_{config.scheduler['interval']}")
    if config.model.hidden_sizes != default.model.hidden_sizes:
        pieces.append("hidden_" + "x".join(map(str, config.model.hidden_sizes)))
    if config.model.layernorm_position:
        position = "+".join(map(str, config.model.layernorm_position))
        pieces.append(f"layernorm_{position}_{config.model.layernorm_placement}")
    for name in ("batch_size", "epochs", "device", "engine", "precision"):
        if getattr(config.trainer, name) != getattr(default.trainer, name):
            pieces.append(f"{name}_{getattr(config.trainer, name)}")
    if config.dataset.val_size:
        pieces.append(f"val_{config.dataset.val_size}")
    if config.dataset.train_size:
        pieces.append(f"train_{config.dataset.train_size}")
    pieces += [
        word
        for name, word in (("record", "recorded"), ("stopping", "stopping"))
        if getattr(config, name) != getattr(default, name)
    ]
    if config.seeds != default.seeds:
        pieces.append(f"seeds_{config.seeds[0]}..{config.seeds[-1]}")
    return pieces


def _optimizer_pieces(config: Config, default: Config) -> list[str]:
    optimizer = config.optimizer
    pieces = []
    if optimizer["_target_"] != default.optimizer["_target_"]:
        pieces.append("amsgrad" if optimizer.get("amsgrad") else _short(optimizer["_target_"]))
        pieces += [f"lr_{optimizer['lr']:g}"] if "lr" in optimizer else []
    elif optimizer["lr"] != default.optimizer["lr"]:
        pieces.append(f"lr_{optimizer['lr']:g}")
    for name, unremarkable in _UNREMARKABLE.items():
        if name in optimizer and optimizer[name] != unremarkable:
            pieces.append(f"{name}_{_value(optimizer[name])}")
    return pieces


def _short(target: str) -> str:
    return target.rpartition(".")[2].lower()


def _value(value: object) -> str:
    if isinstance(value, list):
        return "_".join(map(str, value))
    text = str(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > _MAX_DIGITS else text
