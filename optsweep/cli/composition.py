"""From Hydra's composed configuration to a validated `Config`, and to a plan of its cell."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from optsweep import runs
from optsweep.cli.overrides import rewrite
from optsweep.config import identity
from optsweep.config.checks import InputError, choice
from optsweep.config.dataset import needs_looking_at
from optsweep.config.schema import Config
from optsweep.config.targets import allow_targets
from optsweep.diagnosis.settings import Settings, log_spaced
from optsweep.surroundings import available_memory

if TYPE_CHECKING:
    from optsweep.training.plan import Plan

_MANY_RATES = 500_000  # of which torch's schedulers take 5 s

_plans: dict[str, Plan] = {}


def config_dir() -> Path:
    """The folder of the configuration: in an installed package, or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def compose(*overrides: str) -> Config:
    """The cell that `python -m optsweep OVERRIDES` would train, for programs and notebooks.

    Raises:
        InputError: If a key or a value cannot be used.
        HydraException: If there is no such group, option or key.

    >>> compose("optimizer=adam", "batch_size=512").trainer.batch_size
    512
    """
    with hydra.initialize_config_dir(str(config_dir())):
        return to_config(hydra.compose("config", rewrite(list(overrides), config_dir())))


def compose_whole(arguments: Sequence[str]) -> DictConfig:
    """Compose what a command line asks for but what it sweeps, as Hydra does before a sweep.

    Args:
        arguments: Rewritten ones.

    Returns:
        The configuration with its node `hydra`, which knows of all overrides.

    Raises:
        InputError: If a sweep varies Hydra's own settings, or there is another primary
            configuration.
        HydraException: If it does not compose.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for names in (("--config-path", "-cp"), ("--config-name", "-cn"), ("--config-dir", "-cd")):
        parser.add_argument(*names)
    flags, others = parser.parse_known_args(list(arguments))
    if flags.config_path or flags.config_name:
        raise InputError(
            "--config-path, --config-name: there is one primary configuration; options of your own "
            "go into a folder that --config-dir names"
        )
    texts = [text for text in others if "=" in text or text.startswith("~")]
    overrides = OverridesParser.create().parse_overrides(texts)
    paths = [f"file://{os.path.abspath(flags.config_dir)}"] if flags.config_dir else []
    kept = []
    for text, override in zip(texts, overrides, strict=True):
        if override.key_or_group == "hydra.searchpath":
            paths += OmegaConf.create({"paths": override.value()}).paths
        elif not override.is_sweep_override():
            kept.append(text)
        else:
            refuse_hydra(override.key_or_group)
    for path in map(str, paths):
        if path.startswith("file://") and not os.path.isdir(path.removeprefix("file://")):
            raise InputError(f"there is no folder {path.removeprefix('file://')} of options")
    searchpath = [f"hydra.searchpath=[{','.join(paths)}]"]
    composed = hydra.compose("config", [*kept, *searchpath], return_hydra_config=True)
    parsed = zip(texts, overrides, strict=True)
    composed.hydra.overrides.task = [text for text, o in parsed if not o.is_hydra_override()]
    return composed


def refuse_hydra(key: str) -> None:
    """A sweep varies cells, not what Hydra does.

    Raises:
        InputError: If the key is one of Hydra's.
    """
    if key.lstrip("+~").startswith(("hydra.", "hydra/")):
        raise InputError(f"{key}: a sweep cannot vary Hydra's own settings")


def to_config(composed: DictConfig) -> Config:
    """Validate a composed configuration.

    Raises:
        InputError: If a key or a value cannot be used.
    """
    if not isinstance(composed.rerun, bool) and composed.rerun != runs.STALE:
        raise InputError(f"rerun={composed.rerun}: expected true, false or {runs.STALE}")
    _check_name(composed.name)
    stacking_of(composed)
    packages = composed.allow_targets
    if not isinstance(packages, ListConfig) or not all(isinstance(each, str) for each in packages):
        raise InputError(f"allow_targets={packages}: expected a list such as [mypackage]")
    allow_targets(packages)
    values: dict[str, Any] = {}
    for key, node in composed.items():
        if key not in identity.CONTROL_KEYS:
            plain = (
                OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            )
            values[str(key)] = plain
    if isinstance(values["dataset"], dict) and needs_looking_at(values["dataset"]):
        from optsweep.data.arrays import complete  # noqa: PLC0415 (NumPy, which most starts spare)

        values["dataset"] = complete(values["dataset"])
    if values["start_from"] is not None:
        values["start_from"] = dataclasses.asdict(runs.find_origin(str(values["start_from"])))
    config = Config.from_mapping(values)
    diagnosed = diagnosis_of(composed)
    return config if diagnosed is None else _keeping(config, diagnosed.checkpoints)


def stacking_of(composed: DictConfig) -> str:
    """Whether cells of a grid are trained as one stack: auto, on or off.

    Raises:
        InputError: If it is something else.
    """
    value = composed.stack_cells
    if isinstance(value, bool):  # what YAML takes on and off for
        return "on" if value else "off"
    return choice("stack_cells", value, ["auto", "on", "off"])


def diagnosis_of(composed: DictConfig) -> Settings | None:
    """How a cell is to be diagnosed; None if it is not.

    Raises:
        InputError: If a setting cannot be used.
    """
    node = composed.get("diagnose")
    if node is None:
        return None
    if not OmegaConf.is_config(node):
        raise InputError(f"diagnose={node}: expected curvature")
    values: Any = OmegaConf.to_container(node, resolve=True)
    return Settings.from_mapping(values)


def _keeping(config: Config, num_checkpoints: int) -> Config:
    """The same, with the weights kept that a diagnosis looks at."""
    trainer = config.trainer
    if trainer.keep_weights == "all":
        return config
    epochs = set(log_spaced(trainer.epochs, num_checkpoints))
    if isinstance(trainer.keep_weights, tuple):
        epochs |= set(trainer.keep_weights)
    kept = dataclasses.replace(trainer, keep_weights=tuple(sorted(epochs)))
    return dataclasses.replace(config, trainer=kept)


def _check_name(name: Any) -> None:
    """Refuse what is not a folder of its own in that of the runs, or what a URL would read."""
    given = isinstance(name, (str, int)) and not isinstance(name, bool)
    if not given or not re.fullmatch(r"\w[\w.-]*", str(name)) or name in runs.RESERVED_NAMES:
        raise InputError(
            f"name={name}: expected a plain folder name of letters, digits, '.', '_' and '-', "
            f"and none of {', '.join(runs.RESERVED_NAMES)}"
        )


def check(config: Config, directory: Path, rerun: bool | str) -> None:
    """Find out whether a cell can be trained, unless it is done.

    Raises:
        InputError: If it cannot.
    """
    if runs.finished(directory, config, rerun) is None:
        check_memory([plan(config)])


def check_memory(plans: Sequence[Plan], num_at_once: int = 1) -> None:
    """Find out whether cells fit into what is free of this machine's memory.

    Args:
        plans: Of all that are to be trained, one after the other or side by side.
        num_at_once: How many in processes of their own; 0: on other machines, of which nothing
            is known.

    Raises:
        InputError: If one does not fit, or so many at once do not.
    """
    from optsweep.engine.footprint import PROCESS_BYTES  # noqa: PLC0415 (PyTorch)

    free = available_memory()
    here = [each for each in plans if each.work.device.type == "cpu"]
    if free is None or not here or not num_at_once:
        return
    own = PROCESS_BYTES if num_at_once > 1 else 0
    needed = sorted((each.num_bytes() + own for each in here), reverse=True)
    if needed[0] > free:
        largest = max(here, key=lambda each: each.num_bytes())
        ways = largest.that_fit(free - own)
        others = sum(each > free for each in needed) - 1
        raise InputError(
            f"{identity.label(largest.config)}: it takes about {_gigabytes(needed[0])} of memory, "
            f"and {_gigabytes(free)} are free; "
            + (f"{' or '.join(ways)} would fit" if ways else "a smaller network needs less")
            + (f"; {others} other cells do not fit either" if others else "")
        )
    while sum(needed[:num_at_once]) > free:
        num_at_once -= 1
        if sum(needed[:num_at_once]) <= free:
            raise InputError(
                f"the largest cells at once take more than the {_gigabytes(free)} of memory that "
                f"are free; {num_at_once} at once would fit, such as with "
                f"hydra.launcher.n_jobs={num_at_once}"
            )


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"


def plan(config: Config) -> Plan:
    """What `plan_cell` gives, made once for each configuration."""
    key = repr(config)  # threads and folders included, of which a hash knows nothing
    if key not in _plans:
        is_by_step = config.scheduler["interval"] == "step"
        num_rates = config.trainer.epochs * (config.steps_per_epoch if is_by_step else 1)
        if num_rates > _MANY_RATES and num_rates <= _most_rates():
            print(
                f"optsweep: working out {num_rates} learning rates, one for each "
                f"{'step' if is_by_step else 'epoch'}, before anything is trained",
                file=sys.stderr,
                flush=True,
            )
        _plans[key] = _planner()(config)
    return _plans[key]


def _most_rates() -> int:
    from optsweep.optim.rates import MOST_RATES  # noqa: PLC0415 (PyTorch)

    return MOST_RATES


@functools.cache
def _planner() -> Callable[[Config], Plan]:
    """`plan_cell`, and with it PyTorch.

    Imported without collections of garbage, which would look through 350,000 objects again and
    again for nothing: 0.3 s from the start to the first epoch, and as much at the end.
    """
    gc.disable()
    try:
        from optsweep.training.plan import plan_cell  # noqa: PLC0415
    finally:
        gc.freeze()
        gc.enable()
    return plan_cell


def _cell_name(*, _root_: DictConfig) -> str:
    return f"{runs.CELLS_FOLDER}/{identity.cell_name(to_config(_root_))}"


# conf/config.yaml names a cell's directory with it.
OmegaConf.register_resolver("cell_name", _cell_name, replace=True)
