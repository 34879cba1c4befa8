"""Command-line overrides before Hydra sees them: numbers go to the key that holds them.

Hydra takes only names as options of a group. `batch_size=512` becomes
`trainer.batch_size=512`, while `batch_size=full` stays a choice of the group; the same
holds for sweeps (`batch_size=1,256`) and for Optuna's ranges (`interval(1e-6,1e-1)`).

Hydra 1.4 reads `hydra.mode` from the command line and the primary file alone, so a choice
of an experiment or a search, which are sweeps, brings it along.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from optsweep.config.checks import InputError, nearest

# Group -> the key that holds its value.
VALUE_KEYS = {
    "batch_size": "trainer.batch_size",
    "depth": "model.depth",
    "layernorm_position": "model.layernorm_position",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
}
_GROUPS_OF_PATHS = ("dataset", "model", "optimizer")
_GROUPS_OF_SWEEPS = ("experiment", "search")


def rewrite(arguments: list[str], config_dir: Path) -> list[str]:
    """Rewrite every `group=number`, `optimizer=dotted.path`, `dataset=file.npz`, `experiment=name`.

    Raises:
        InputError: If an override mixes numbers with a name that is more than a number, or more
            than one experiment or search is asked for.

    >>> rewrite(["batch_size=512", "init=gaussian"], Path("conf"))
    ['trainer.batch_size=512', 'init=gaussian']
    >>> rewrite(["experiment=r1_init"], Path("conf"))
    ['experiment=r1_init', 'hydra.mode=MULTIRUN']
    """
    sweeps = [text for text in arguments if text.partition("=")[0] in _GROUPS_OF_SWEEPS]
    if len(sweeps) > 1 or any(re.search(r"[,(]", sweep) for sweep in sweeps):
        raise InputError(
            f"{' '.join(sweeps)}: a command runs one experiment or search; "
            "python scripts/reproduce.py --only NAME NAME runs experiments one after the other"
        )
    rewritten: list[str] = []
    for argument in arguments:
        refuse_underflow(argument)
        group, equals, value = argument.partition("=")
        if equals and group in VALUE_KEYS and re.search(r"\d|inf|nan", value):
            rewritten.append(_to_value(group, value, config_dir))
        elif equals and group == "dataset" and value.endswith(".npz"):
            rewritten += ["dataset=npz", f"dataset.path={value}"]
        elif equals and group in _GROUPS_OF_PATHS and re.fullmatch(r"[\w,]+(\.[\w,]+)+", value):
            rewritten += [f"{group}=custom", f"{group}._target_={value}"]
        elif equals and group in _GROUPS_OF_SWEEPS:
            rewritten += [argument, "hydra.mode=MULTIRUN"]
        else:
            rewritten.append(argument)
    return rewritten


def refuse_underflow(text: str) -> None:
    """Refuse a number that is too small to be told from 0.

    Raises:
        InputError: If there is one.
    """
    for number in re.findall(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])", text):
        if float(number) == 0 and re.search("[1-9]", re.split("[eE]", number)[0]):
            raise InputError(f"{text}: {number} is too small a number, and would be taken for 0")


def options(group: str, config_dir: Path) -> list[str]:
    """The names that a group has, sorted."""
    return sorted(path.stem for path in (config_dir / group).glob("*.yaml"))


def _to_value(group: str, value: str, config_dir: Path) -> str:
    """`group=value` if its values are names, `key=value` if they are numbers."""
    values = _swept_values(group, value)
    if values is None:
        return f"{group}={value}"
    names = [item for item in values if isinstance(item, str)]
    if len(names) == len(values):
        return f"{group}={value}"
    for name in names:
        number = _value_of(group, name, config_dir)
        value = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", number, value)
    return f"{VALUE_KEYS[group]}={value}"


def _swept_values(group: str, value: str) -> list[Any] | None:
    """The single values of an override, names as str; None if Hydra cannot parse it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415
    from hydra.core.override_parser.types import ChoiceSweep, Glob  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415

    try:
        parsed = OverridesParser.create().parse_override(f"{group}={value}").value()
    except HydraException:
        return None
    if isinstance(parsed, ChoiceSweep):
        return [_unquoted(item) for item in parsed.list]
    if isinstance(parsed, Glob):
        return None
    return [_unquoted(parsed)]


def _unquoted(item: Any) -> Any:
    return item.text if hasattr(item, "text") else item


def _value_of(group: str, name: str, config_dir: Path) -> str:
    """The number that a named option stands for, as text."""
    names = options(group, config_dir)
    if name not in names:
        raise InputError(f"{group}={name}: there is no such option; {nearest(name, names)}")
    settings = yaml.safe_load((config_dir / group / f"{name}.yaml").read_text()) or {}
    key = VALUE_KEYS[group].rpartition(".")[2]
    if list(settings) != [key]:
        raise InputError(
            f"{group}={name}: this option is not a single number, so it cannot stand in one "
            "sweep with numbers"
        )
    return str(settings[key]).replace(" ", "")
