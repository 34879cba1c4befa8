"""Command-line overrides before Hydra sees them, and which setting each of them decides.

Hydra takes only names as options of a group. `batch_size=512` becomes
`trainer.batch_size=512`, while `batch_size=full` stays a choice of the group; the same
holds for sweeps (`batch_size=1,256`) and for Optuna's ranges (`interval(1e-6,1e-1)`).

Of several values for one key the last counts, as in Hydra. Two keys for one setting, of which
Hydra would drop one without a word, are a mistake.

Hydra 1.4 reads `hydra.mode` from the command line and the primary file alone, so a choice
of an experiment or a search, which are sweeps, brings it along. And it composes a sweep first
without what is swept: a key that only the swept options have is hidden from it as a list of one
value, `choice(2)`, which is put into each cell.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from optsweep.config.checks import InputError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# Group -> the key that holds its value.
VALUE_KEYS = {
    "batch_size": "trainer.batch_size",
    "depth": "model.depth",
    "layernorm_position": "model.layernorm_position",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
}
# Key -> another one that decides the same.
SAME_SETTING = {
    "model.hidden_sizes": "model.depth",
    "optimizer.betas": "optimizer.momentum",
    "scheduler.base_lr": "optimizer.lr",
}
PAIRS = "hydra.sweeper.pairs"  # where `key,key=[value,value],…` goes
_GROUPS_OF_PATHS = ("dataset", "model", "optimizer", "scheduler")
_GROUPS_OF_TARGETS = (*_GROUPS_OF_PATHS, "init")
_GROUPS_OF_SWEEPS = ("experiment", "search")
_MULTIRUN = ("--multirun", "-m", "hydra.mode=MULTIRUN")


def rewrite(arguments: Sequence[str], config_dir: Path) -> list[str]:
    """Rewrite a command line into one that Hydra reads as it is meant.

    Args:
        arguments: Overrides and flags, as the user gives them.
        config_dir: Folder of the groups; options of `--config-dir` are known too.

    Raises:
        InputError: If two overrides decide one setting, one mixes numbers with a name that is
            more than a number, or more than one experiment or search is asked for.

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
    if sweeps and "hydra.mode=RUN" in arguments:
        raise InputError(f"hydra.mode=RUN: {sweeps[0]} is a sweep")
    folders = [config_dir, *_own_folders(arguments)]
    last = _last_of_each_key(arguments)
    _refuse_two_for_one_setting(last, folders)
    pairs = [argument for argument in last if _is_pair(argument)]
    rewritten = [
        text for argument in last if argument not in pairs for text in translate(argument, folders)
    ]
    if pairs:
        for pair in pairs:
            _check_pair(pair)
        nodes = (pair.partition("=") for pair in pairs)
        texts = (f"{{keys:[{keys}],values:[{values}]}}" for keys, _, values in nodes)
        rewritten.append(f"{PAIRS}=[{','.join(texts)}]")
    rewritten += ["hydra.mode=MULTIRUN"] * bool(sweeps)
    if any(flag in rewritten for flag in _MULTIRUN):
        return [_hidden(argument) for argument in rewritten]
    if pairs:
        raise InputError(f"{pairs[0]}: several values are a sweep; add --multirun")
    return rewritten


def translate(argument: str, folders: Sequence[Path]) -> list[str]:
    """One override as Hydra reads it: a number, a path or a file go to the keys that hold them.

    Raises:
        InputError: If it mixes numbers with a name that is more than a number.
    """
    refuse_underflow(argument)
    group, equals, value = argument.partition("=")
    if equals and group in VALUE_KEYS and re.search(r"\d|inf|nan", value):
        return [_to_value(group, value, folders)]
    if equals and group == "dataset" and value.endswith(".npz"):
        return ["dataset=npz", f"dataset.path={value}"]
    if equals and group in _GROUPS_OF_PATHS and re.fullmatch(r"[\w,]+(\.[\w,]+)+", value):
        return [f"{group}=custom", f"{group}._target_={value}"]
    return [argument]


def _is_pair(argument: str) -> bool:
    """Whether it is `key,key=[value,value],…`."""
    key, equals, _ = argument.partition("=")
    return bool(equals) and "," in key


def refuse_underflow(text: str) -> None:
    """Refuse a number that is too small to be told from 0.

    Raises:
        InputError: If there is one.
    """
    for number in re.findall(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])", text):
        if float(number) == 0 and re.search("[1-9]", re.split("[eE]", number)[0]):
            raise InputError(f"{text}: {number} is too small a number, and would be taken for 0")


def _check_pair(argument: str) -> None:
    """Refuse what is no list of plain values.

    Raises:
        InputError: If it is not.
    """
    keys, _, values = argument.partition("=")
    override = _parsed(f"values=[{values}]")
    rows: Any = [] if override is None else override.value()
    plain = (str, int, float, bool, list, dict, type(None))
    items = [item for row in rows for item in (row if isinstance(row, list) else [row])]
    if not rows or not all(isinstance(getattr(item, "text", item), plain) for item in items):
        example = ",".join("[" + ",".join("x" * len(keys.split(","))) + "]" for _ in range(2))
        raise InputError(
            f"{argument}: expected lists of values such as {example}, where a value may be several "
            "in quotes, such as '0.1,0.3', but no range"
        )


def options(group: str, *folders: Path) -> list[str]:
    """The names that a group has, sorted."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def settings_of(argument: str, folders: Sequence[Path]) -> dict[str, str]:
    """What an override decides: setting -> the key or the option that does.

    The first is what the override is for; of a choice, what its options say of other settings
    follows.

    >>> settings_of("model.hidden_sizes=[256]", [Path("conf")])
    {'model.depth': 'model.hidden_sizes'}
    >>> settings_of("momentum=nesterov", [Path("conf")])
    {'optimizer.momentum': 'momentum', 'optimizer.nesterov': 'momentum=nesterov'}
    >>> settings_of("scheduler=factor_fast", [Path("conf")])["optimizer.lr"]
    'scheduler=factor_fast'
    """
    typed, _, value = argument.lstrip("+~").partition("=")
    found = {}
    for key in typed.split(","):
        own = VALUE_KEYS.get(key, key)
        found[SAME_SETTING.get(own, own)] = typed
        if key in _GROUPS_OF_PATHS and "." in value:
            found[f"{key}._target_"] = key
        for name in re.findall(r"\w+", value) if key in (*VALUE_KEYS, *_GROUPS_OF_TARGETS) else ():
            package = VALUE_KEYS.get(key, f"{key}.").rpartition(".")[0]
            for leaf in option_values(key, name, folders):
                setting = SAME_SETTING.get(f"{package}.{leaf}", f"{package}.{leaf}")
                # Of other options the settings are meant to be refined, but their class is not.
                if key in VALUE_KEYS or leaf == "_target_" or not setting.startswith(f"{key}."):
                    found.setdefault(setting, f"{key}={name}")
    return found


def option_values(group: str, name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The settings of a named option as they stand in its file; nothing if there is none.

    Raises:
        InputError: If the file cannot be read.
    """
    for folder in folders:
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            try:
                values = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
                told = " ".join(str(error).split())
                raise InputError(f"{path} cannot be read ({told})") from error
            own = values if isinstance(values, dict) else {}
            return {str(key): value for key, value in own.items() if value not in ("???", None)}
    return {}


def _own_folders(arguments: Sequence[str]) -> Iterator[Path]:
    """The folders that `--config-dir` or Hydra's search path names."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            yield Path(value if equals else following)
        elif flag == "hydra.searchpath":
            yield from map(Path, re.findall(r"file://([^,\]]+)", value))


def _last_of_each_key(arguments: Sequence[str]) -> list[str]:
    """Without the values that a later one for the same key, written alike, takes the place of."""
    last = {}
    for index, argument in enumerate(arguments):
        key, equals, _ = argument.partition("=")
        plain = equals and re.match(r"[\w+]", argument) and not argument.startswith("-")
        last[key.lstrip("+") if plain else f"{index} {argument}"] = index
    return [arguments[index] for index in sorted(last.values())]


def _refuse_two_for_one_setting(arguments: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse two overrides of which one would be lost.

    Raises:
        InputError: It names both.
    """
    decided: dict[str, tuple[str, str]] = {}
    for argument in arguments:
        if argument.startswith(("-", "~")) or "=" not in argument:
            continue
        for setting, by in settings_of(argument, folders).items():
            other, others = decided.get(setting, (argument, by))
            if others != by:
                both = [by if "=" in by else text for text, by in ((other, others), (argument, by))]
                raise InputError(f"{both[0]} and {both[1]} both decide {setting}; give one of them")
            decided[setting] = (argument, by)


def _hidden(argument: str) -> str:
    """The override of a key in a group, as a list of one value."""
    key, _, value = argument.partition("=")
    in_group = key.partition(".")[0] in _GROUPS_OF_TARGETS and "." in key
    override = _parsed(argument) if in_group and value not in ("null", "") else None
    return (
        argument if override is None or override.is_sweep_override() else f"{key}=choice({value})"
    )


def shown(argument: str) -> str:
    """What `_hidden` took: `key=value` of a list of one value.

    >>> shown("scheduler.warmup_epochs=choice(2)"), shown("seed=choice(0,1)")
    ('scheduler.warmup_epochs=2', 'seed=choice(0,1)')
    """
    key, _, value = argument.partition("=")
    if not value.startswith("choice("):
        return argument
    override = _parsed(argument)
    values = [] if override is None else [*override.sweep_string_iterator()]
    return f"{key}={value.removeprefix('choice(')[:-1]}" if len(values) == 1 else argument


def _parsed(argument: str) -> Override | None:
    """An override as Hydra reads it; None if it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415

    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _to_value(group: str, value: str, folders: Sequence[Path]) -> str:
    """`group=value` if its values are names, `key=value` if they are numbers."""
    names, num_values = _names(f"{group}={value}")
    if len(names) == num_values:
        return f"{group}={value}"
    for name in names:
        number = _value_of(group, name, folders)
        value = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", number, value)
    return f"{VALUE_KEYS[group]}={value}"


def _names(argument: str) -> tuple[list[str], int]:
    """Those of an override's values that are names, and how many values it has.

    Where Hydra cannot parse it, or it is a pattern, there are none and none.
    """
    from hydra.core.override_parser.types import ChoiceSweep, Glob  # noqa: PLC0415

    override = _parsed(argument)
    value = None if override is None else override.value()
    if override is None or isinstance(value, Glob):
        return [], 0
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    plain = [getattr(item, "text", item) for item in values]
    return [item for item in plain if isinstance(item, str)], len(plain)


def _value_of(group: str, name: str, folders: Sequence[Path]) -> str:
    """The number that a named option stands for, as text."""
    names = options(group, *folders)
    if name not in names:
        raise InputError(f"{group}={name}: there is no such option; {nearest(name, names)}")
    settings = option_values(group, name, folders)
    key = VALUE_KEYS[group].rpartition(".")[2]
    if list(settings) != [key]:
        raise InputError(
            f"{group}={name}: this option is not a single number, so it cannot stand in one "
            "sweep with numbers"
        )
    return str(settings[key]).replace(" ", "")
