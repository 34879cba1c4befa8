"""The configurations of a grid's cells, which Hydra composes once for all that choose alike."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from optsweep.cli.composition import config_dir
from optsweep.cli.mistakes import reworded
from optsweep.cli.overrides import (
    SAME_SETTING,
    VALUE_KEYS,
    option_values,
    options,
    settings_of,
)
from optsweep.config.checks import InputError, first_line

_composed: dict[tuple[str, ...], DictConfig] = {}


class CellLoader:
    """What a launcher needs of Hydra's loader of configurations.

    Composing takes Hydra 60 ms, and a cell is composed when its study is planned, when its grid
    is checked and when it is trained. Here Hydra is asked only once for each combination of
    options of groups, and values are put into a copy of what it gave, which takes 4 ms.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        """Take Hydra's own."""
        self.loader = loader

    def load_sweep_config(self, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """The configuration of the cell with these overrides, as Hydra's loader gives it.

        Args:
            config: The composed configuration of the whole sweep, with its `hydra` node.
            overrides: Of the cell.

        Raises:
            InputError: If it lacks a key.
        """
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = [override for override in parsed if _is_value(override)]
        groups = [str(override.input_line) for override in parsed if not _is_value(override)]
        try:
            cell = copy.deepcopy(self._compose(config, groups))
            for override in values:
                OmegaConf.update(cell, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # Hydra knows better what to say of a mistake
            try:
                return self.loader.load_sweep_config(config, list(overrides))
            except ConfigCompositionException as error:
                known = OmegaConf.to_container(self._compose(config, groups))
                raise InputError(reworded(first_line(error), lambda: ([known], groups))) from error
        _settle(cell, overrides, config)
        cell.hydra.overrides.task = list(overrides)
        OmegaConf.copy_cache(from_config=config, to_config=cell)
        return cell

    def _compose(self, config: DictConfig, groups: list[str]) -> DictConfig:
        key = (os.getcwd(), *config.hydra.overrides.hydra, *groups)
        if key not in _composed:
            _composed[key] = self.loader.load_sweep_config(config, groups)
        return _composed[key]


def _settle(cell: DictConfig, overrides: Sequence[str], config: DictConfig) -> None:
    """Let what was chosen for the cell win over what a file says of the same setting.

    To Hydra the options of a group come before the file of an experiment, whose values would take
    their place without a word; and another key may decide the same, see `SAME_SETTING`.
    """
    folders = folders_of(config)
    given = [override.partition("=")[0] for override in overrides]
    for override in overrides:
        group, _, name = override.partition("=")
        package = VALUE_KEYS.get(group, "").rpartition(".")[0]
        for key, value in option_values(group, name, folders).items() if package else ():
            if f"{package}.{key}" not in given:
                OmegaConf.update(cell, f"{package}.{key}", value)
    told = [text for text in config.hydra.overrides.task if "=" in text]
    by = {setting: key for text in told for setting, key in settings_of(text, folders).items()}
    options_of = dict(override.split("=", 1) for override in overrides if "=" in override)
    for other, key in SAME_SETTING.items():
        decider = by.get(key, other).partition("=")[0]
        own = option_values(decider, options_of.get(decider, ""), folders)
        is_own = other.rpartition(".")[2] in own  # the option that was chosen brings it along
        if decider != other and not is_own and other not in given and OmegaConf.select(cell, other):
            OmegaConf.update(cell, other, None)


def folders_of(config: DictConfig) -> list[Path]:
    """Where the options of groups are, the shipped ones and the user's own."""
    sources = config.hydra.runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file"]


def _is_value(override: Override) -> bool:
    """Tell `key=value` from `group=option`, additions and deletions."""
    plain = override.type is OverrideType.CHANGE and override.package is None
    return plain and not options(override.key_or_group, config_dir())
