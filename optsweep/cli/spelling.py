"""From a configuration back to what composes it: overrides, and a file under `experiment/`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from optsweep.cli.composition import config_dir, to_config
from optsweep.cli.grids import plan_grid
from optsweep.cli.overrides import option_values, options
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config, ModuleConfig
from optsweep.config.targets import SHIPPED, present

# Groups of a `_target_` with its settings; `custom` is their option for any other path.
_GROUPS = ("dataset", "model", "init", "optimizer", "scheduler")
# How fast the work goes, and what is kept while it does: of no use at another place.
_LEFT_OUT = ("trainer.num_threads", "trainer.checkpoint", "start_from")
_PLAIN = (bool, int, float, type(None))


def spell(config: Config) -> list[str]:
    """Overrides that compose a configuration again.

    Raises:
        InputError: If they cannot be found, as for weights to begin with that have moved.
    """
    target = _values(config)
    choices = [text for group in _GROUPS for text in _choice(group, config)]
    paths = [value for key, value in target.items() if key.endswith("._target_")]
    allowed = sorted({_package(path) for path in paths} - {*SHIPPED})
    flags = [f"allow_targets=[{','.join(allowed)}]"] if allowed else []
    raw, base = _composed([*choices, *flags])
    overrides = [*choices, *flags]
    for key in dict.fromkeys([*target, *base]):
        if key in _LEFT_OUT or key.startswith("start_from.") or target.get(key) == base.get(key):
            continue
        sign = "" if key in raw else "+"
        overrides.append(f"{sign}{key}={_text(target.get(key))}")
    if config.start_from is not None:
        overrides.append(f"start_from={config.start_from.path}@{config.start_from.epoch}")
    overrides = [each for each in overrides if each not in _defaults()]
    _check(overrides, config)
    return overrides


def command_line(overrides: Sequence[str]) -> str:
    """The command that trains one cell with these overrides."""
    return shlex.join(["python", "-m", "optsweep", *overrides])


def write_experiment(folder: Path, name: str, overrides: Sequence[str], comment: str) -> Path:
    """Write `experiment/NAME.yaml`, which composes the cell of some overrides.

    Args:
        folder: For `--config-dir`.
        name: Of the file, and of the sweep that it is.
        overrides: What `spell` gave.
        comment: Lines that say where it comes from.

    Returns:
        The file.
    """
    groups = [each.partition("=") for each in overrides if _is_choice(each)]
    values: dict[str, Any] = {"name": name}
    told = [each for each in overrides if not _is_choice(each) and not each.startswith("allow_")]
    for key, value in ((each.partition("=")[0], each) for each in told):
        _put(values, key.lstrip("+").split("."), _parsed(value))
    content: dict[str, Any] = {}
    if groups:
        content["defaults"] = [{f"override /{group}": option} for group, _, option in groups]
    content |= values | {"hydra": {"mode": "MULTIRUN"}}
    path = folder / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# @package _global_", *(f"# {line}" for line in comment.splitlines())]
    text = yaml.safe_dump(content, sort_keys=False, width=1000)
    path.write_text("\n".join([*lines, text]), encoding="utf-8")
    return path


def check_experiment(folder: Path, name: str, config: Config, flags: Sequence[str]) -> None:
    """Find out that a file composes the very cell that it was written for.

    Raises:
        RuntimeError: If not.
    """
    grid = plan_grid(["--config-dir", str(folder), f"experiment={name}", *flags])
    if [config_hash(cell.config) for cell in grid.cells] != [config_hash(config)]:
        raise RuntimeError(f"experiment={name} composes another cell than it was written for")


def _choice(group: str, config: Config) -> list[str]:
    """The option of a group that is nearest to what was configured."""
    values = config.to_mapping()[group]
    if group == "model":
        name = "custom" if isinstance(config.model, ModuleConfig) else "mlp"
        target = config.model.target if isinstance(config.model, ModuleConfig) else ""
    elif group == "dataset":
        name, target = "custom", str(config.dataset.source["_target_"])
    else:
        name, target = "custom", str(values["_target_"])
    best, most = name, -1
    for option in options(group, config_dir()):
        settings = option_values(group, option, [config_dir()])
        if present(settings.get("_target_", ".")) != target:
            continue
        if group == "dataset" and settings.get("name") != config.dataset.name:
            continue
        alike = sum(values.get(key) == value for key, value in settings.items())
        if alike > most:
            best, most = option, alike
    if best != "custom":
        return [f"{group}={best}"]
    if group == "init":
        raise InputError(f"{group}: no option has the path {target}")
    return [f"{group}=custom", f"{group}._target_={target}"]


def _composed(choices: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What choices compose, as keys of the files and of the validated configuration.

    Data of another kind than the shipped ones are known by their own keys alone.
    """
    with hydra.initialize_config_dir(str(config_dir())):
        raw = _flat(OmegaConf.to_container(hydra.compose("config", list(choices))), empty=True)
        others = [each for each in choices if not each.startswith("dataset")]
        shipped = choices if "dataset=custom" not in choices else others
        base = _values(to_config(hydra.compose("config", list(shipped))))
    if shipped is not choices:
        of_data = {key: value for key, value in raw.items() if key.startswith("dataset.")}
        base = {key: value for key, value in base.items() if not key.startswith("dataset.")}
        base |= of_data | {"dataset.gz_sha256": {}}
    return raw, base


def _values(config: Config) -> dict[str, Any]:
    """What a configuration holds, by dotted keys."""
    return _flat(config.to_mapping()) | {"dataset._target_": config.dataset.source["_target_"]}


def _flat(values: Any, prefix: str = "", empty: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and (value or empty):
            found |= _flat(value, f"{prefix}{key}.", empty)
            if not value:
                found[f"{prefix}{key}"] = value
        else:
            found[f"{prefix}{key}"] = value
    return found


def _text(value: Any) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(item)}" for key, item in value.items()) + "}"
    text = str(value)
    plain = text.replace("_", "").replace(".", "").replace("/", "").replace("-", "")
    return text if plain.isalnum() else QuotedString(text, Quote.double).with_quotes()


def _check(overrides: Sequence[str], config: Config) -> None:
    grid = plan_grid(["--multirun", *overrides])
    if [config_hash(cell.config) for cell in grid.cells] != [config_hash(config)]:
        raise RuntimeError(f"{' '.join(overrides)} compose another cell than they were made for")


def _defaults() -> tuple[str, ...]:
    """Choices that are made anyway."""
    whole = yaml.safe_load((config_dir() / "config.yaml").read_text(encoding="utf-8"))
    pairs = (entry for entry in whole["defaults"] if isinstance(entry, dict))
    return tuple(f"{key}={value}" for entry in pairs for key, value in entry.items())


def _is_choice(override: str) -> bool:
    return override.partition("=")[0] in _GROUPS


def _parsed(override: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415

    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.to_container(OmegaConf.create({"value": _unquoted(value)}))["value"]  # type: ignore[index,call-overload]


def _unquoted(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    if isinstance(value, dict):
        return {str(_unquoted(key)): _unquoted(item) for key, item in value.items()}
    return value


def _put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
    values[keys[-1]] = value


def _package(path: Any) -> str:
    return str(path).partition(".")[0]
