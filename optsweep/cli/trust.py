"""What a configuration file may make Hydra do, checked before Hydra does anything with it.

An experiment file may come from a stranger. Hydra calls what its node `hydra` names (callbacks,
a sweeper, a launcher), sets up logging, whose handlers write files, and sets environment
variables; Slurm's launcher runs commands. A file may choose among the parts that optsweep ships.
What else these keys can do is for the command line, where the user says it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from optsweep.cli.composition import config_dir
from optsweep.config.checks import InputError

_JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
# Everything that Hydra may instantiate, by the place where its path stands.
PARTS = {
    "hydra.sweeper._target_": (
        "optsweep.cli.sweepers.GridSweeper",
        "optsweep.cli.sweepers.SearchSweeper",
    ),
    "hydra.launcher._target_": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        _JOBLIB,
        "optsweep.cli.slurm.ClusterLauncher",
        f"{_SUBMITIT}.LocalLauncher",
    ),
}
# Keys whose values can run programs, load code or write to files of any name, with the values
# that do nothing of the kind.
_QUIET = {"version": 1, "root": None, "disable_existing_loggers": False}
_HARMLESS: dict[str, Any] = {
    "hydra.job_logging": _QUIET,
    "hydra.hydra_logging": _QUIET,
    "hydra.job.env_set": {},
    "hydra.job.env_copy": [],
    "hydra.launcher.setup": None,
    "hydra.launcher.additional_parameters": {},
    "hydra.launcher.python": None,
    "hydra.launcher.srun_args": None,
}


def check_command_line(arguments: Sequence[str]) -> DictConfig:
    """Compose what a command line asks for, and check it before Hydra acts on it.

    Returns:
        The whole configuration without what is swept, with its node `hydra`.

    Raises:
        InputError: See `check_trust`; or if another primary configuration is asked for.
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
    with hydra.initialize_config_dir(str(config_dir())):
        composed = hydra.compose(
            "config", [*kept, f"hydra.searchpath=[{','.join(paths)}]"], return_hydra_config=True
        )
    check_trust(composed, texts)
    return composed


def check_trust(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse what only the user may say and the user has not said.

    Args:
        composed: The whole configuration, with its node `hydra`.
        overrides: The command line.

    Raises:
        InputError: If a file names a part that is not shipped, or does what files may not.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = {override.key_or_group.replace("/", ".") for override in parsed}
    if composed.hydra.callbacks:
        name = next(iter(composed.hydra.callbacks))
        raise InputError(f"hydra.callbacks.{name}: optsweep has no callbacks")
    for key, paths in PARTS.items():
        found = OmegaConf.select(composed, key)
        if found not in paths:
            known = ", ".join(path.rpartition(".")[2] for path in paths)
            raise InputError(f"{key}={found}: expected one of optsweep's own parts: {known}")
    for key, harmless in _HARMLESS.items():
        found = _plain(OmegaConf.select(composed, key))
        if found not in (harmless, None) and not _is_given(key, given):
            raise InputError(
                f"{key}: a file may not set it, for it can run programs or write "
                "anywhere; give it on the command line"
            )
    allowed = _plain(composed.get("allow_targets"))
    if allowed and "allow_targets" not in given:
        raise InputError(
            f"allow_targets={allowed}: a file may not allow packages; give it on the command line"
        )


def refuse_hydra(key: str) -> None:
    """A sweep varies cells, not what Hydra does.

    Raises:
        InputError: If the key is one of Hydra's.
    """
    if key.lstrip("+~").startswith(("hydra.", "hydra/")):
        raise InputError(f"{key}: a sweep cannot vary Hydra's own settings")


def _is_given(key: str, given: set[str]) -> bool:
    return any(key == each or each.startswith(f"{key}.") for each in given)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
