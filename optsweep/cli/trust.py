"""What a configuration file may make Hydra do, checked before Hydra does anything with it.

An experiment file may come from a stranger. Hydra calls what its node `hydra` names (callbacks,
a sweeper, a launcher), sets up logging, whose handlers write files, and sets environment
variables; Slurm's launcher runs commands. A file may choose among the parts that optsweep ships.
What else these keys can do is for the command line, where the user says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from optsweep.cli.composition import compose_whole, config_dir
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
        See `compose_whole`.

    Raises:
        InputError: See `compose_whole` and `check_trust`.
        HydraException: If it does not compose.
    """
    with hydra.initialize_config_dir(str(config_dir())):
        composed = compose_whole(arguments)
    told = composed.hydra.overrides
    check_trust(composed, [*told.hydra, *told.task])
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


def _is_given(key: str, given: set[str]) -> bool:
    return any(key == each or each.startswith(f"{key}.") for each in given)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
