"""The configurations of a grid's cells, which Hydra composes once for all that choose alike."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from optsweep.cli.composition import config_dir
from optsweep.cli.mistakes import reworded
from optsweep.cli.overrides import options
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
        cell.hydra.overrides.task = list(overrides)
        OmegaConf.copy_cache(from_config=config, to_config=cell)
        return cell

    def _compose(self, config: DictConfig, groups: list[str]) -> DictConfig:
        key = (os.getcwd(), *config.hydra.overrides.hydra, *groups)
        if key not in _composed:
            _composed[key] = self.loader.load_sweep_config(config, groups)
        return _composed[key]


def _is_value(override: Override) -> bool:
    """Tell `key=value` from `group=option`, additions and deletions."""
    plain = override.type is OverrideType.CHANGE and override.package is None
    return plain and not options(override.key_or_group, config_dir())
