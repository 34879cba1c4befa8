"""The name of a cell's directory: a readable label and a hash of all that decides the result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from optsweep.config.schema import Config, MLPConfig, ModuleConfig
from optsweep.config.targets import lasting, present

MAX_LABEL_LENGTH = 80
_MAX_DIGITS = 9  # a search proposes values of seventeen; the hash tells these apart

# The one list of keys that do not decide what comes out. Top-level keys that say what to do:
CONTROL_KEYS = ("hydra", "rerun", "name", "stack_cells", "allow_targets", "diagnose")
# and keys that say where the data come from, how fast the work goes or what of it is kept; the
# data's identity is in their checksums, and that of the weights a cell begins with in their cell's.
IRRELEVANT_KEYS = (
    "dataset.root",
    "dataset.torchvision_class",
    "dataset.debian_package",
    "dataset.debian_folder",
    "trainer.num_threads",
    "trainer.checkpoint",
    "trainer.keep_weights",
    "start_from.path",
)
# Settings of an optimizer that a label leaves out at these values.
_UNREMARKABLE = {
    "momentum": 0.0,
    "betas": [0.9, 0.999],
    "nesterov": False,
    "weight_decay": 0.0,
    "decay_biases_and_norms": True,
    "adapt_biases_and_norms": True,
}


def config_hash(config: Config) -> str:
    """Ten hexadecimal digits of the SHA-256 of everything that decides the result."""
    text = json.dumps(_numbers_alike(deciding_values(config)), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def deciding_values(config: Config) -> dict[str, Any]:
    """The configuration as plain data without what does not decide the result.

    Its form is that in which the first cells were hashed: what is added later stands in it only
    where it is used.
    """
    values = config.to_mapping() | {"dataset": config.dataset.deciding_values()}
    if config.start_from is None:
        del values["start_from"]
    for key in IRRELEVANT_KEYS:
        group, _, name = key.partition(".")
        values.get(group, {}).pop(name, None)
    if isinstance(config.model, MLPConfig) and not config.model.dropout:
        del values["model"]["dropout"]
    if not config.stopping:
        del values["stopping"]  # a rule that asks for nothing is as good as none
    for group in ("init", "optimizer", "scheduler"):
        values[group]["_target_"] = lasting(values[group]["_target_"])
    if "rest" in values["optimizer"]:
        rest = values["optimizer"]["rest"]
        rest["_target_"] = lasting(rest["_target_"])
    return values


def flat_values(config: Config) -> dict[str, Any]:
    """What decides the result by dotted keys, lists as tuples, and paths as they stand today.

    >>> flat_values(Config())["trainer.batch_size"]
    256
    """
    return _flat(deciding_values(config))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            plain = present(value) if key == "_target_" else value
            found[f"{prefix}{key}"] = _flat_list(plain) if isinstance(plain, list) else plain
    return found


def _flat_list(values: list[Any]) -> tuple[Any, ...] | str:
    """A list as a tuple, or as JSON if it holds more than plain values."""
    nested = any(isinstance(value, (list, dict)) for value in values)
    return json.dumps(values) if nested else tuple(values)


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
    pieces += _model_pieces(config.model)
    for name in ("batch_size", "epochs", "device", "engine", "precision"):
        if getattr(config.trainer, name) != getattr(default.trainer, name):
            pieces.append(f"{name}_{getattr(config.trainer, name)}")
    if config.dataset.val_size:
        pieces.append(f"val_{config.dataset.val_size}")
    if config.dataset.train_size:
        pieces.append(f"train_{config.dataset.train_size}")
    if config.start_from is not None:
        pieces.append(f"from_{config.start_from.cell}_{config.start_from.epoch}")
    pieces += [
        word
        for name, word in (("record", "recorded"), ("stopping", "stopping"))
        if getattr(config, name) != getattr(default, name)
    ]
    if config.seeds != default.seeds:
        pieces.append(f"seeds_{config.seeds[0]}..{config.seeds[-1]}")
    return pieces


def _model_pieces(model: MLPConfig | ModuleConfig) -> list[str]:
    if isinstance(model, ModuleConfig):
        settings = (f"{name}_{_value(value)}" for name, value in model.settings.items())
        return [_short(model.target), *settings]
    pieces = []
    if model.hidden_sizes != MLPConfig().hidden_sizes:
        pieces.append("hidden_" + "x".join(map(str, model.hidden_sizes)))
    if model.layernorm_position:
        position = "+".join(map(str, model.layernorm_position))
        pieces.append(f"layernorm_{position}_{model.layernorm_placement}")
    if model.dropout:
        pieces.append(f"dropout_{_value(model.dropout)}")
    return pieces


def _optimizer_pieces(config: Config, default: Config) -> list[str]:
    optimizer = config.optimizer
    pieces = []
    if optimizer["_target_"] != default.optimizer["_target_"]:
        pieces.append("amsgrad" if optimizer.get("amsgrad") else _short(optimizer["_target_"]))
        pieces += [f"lr_{optimizer['lr']:g}"] if "lr" in optimizer else []
    elif optimizer.get("lr") != default.optimizer["lr"]:
        pieces.append(f"lr_{optimizer['lr']:g}" if "lr" in optimizer else "lr_default")
    for name, unremarkable in _UNREMARKABLE.items():
        if name in optimizer and optimizer[name] != unremarkable:
            pieces.append(f"{name}_{_value(optimizer[name])}")
    for role, settings in optimizer.get("groups", {}).items():
        pieces += [f"{role}_{name}_{_value(value)}" for name, value in settings.items()]
    rest = optimizer.get("rest", {})
    pieces += [f"rest_{'+'.join(rest['roles'])}"] if "roles" in rest else []
    return pieces + ([f"rest_lr_{rest['lr']:g}"] if "lr" in rest else [])


def _short(target: str) -> str:
    return target.rpartition(".")[2].lower()


def _value(value: object) -> str:
    if isinstance(value, list):
        return "_".join(map(str, value))
    text = str(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > _MAX_DIGITS else text
