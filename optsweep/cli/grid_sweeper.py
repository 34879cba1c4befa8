"""Hydra's sweeper for grids: every combination of the values that the command line lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """What `hydra/sweeper=basic` names.

    Hydra's own composes all cells once more before the first is trained, to find mistakes;
    `optsweep.cli.validation` has found them by then. And its launchers have cells composed anew.
    """

    def __init__(self, params: Any) -> None:
        """Take the node's key, which `optsweep.cli.grids.expand` reads from the configuration."""
        del params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's way of handing over what a sweeper needs."""
        from optsweep.cli.cell_loader import CellLoader  # noqa: PLC0415

        loader = cast(ConfigLoader, CellLoader(hydra_context.config_loader))
        hydra_context = dataclasses.replace(hydra_context, config_loader=loader)
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        self.grid = (config, launcher)

    def sweep(self, arguments: list[str]) -> Sequence[Sequence[JobReturn]]:
        """Train all cells; what one raises is raised here."""
        from optsweep.cli.grids import expand  # noqa: PLC0415

        del arguments  # the configuration has them
        config, launcher = self.grid
        returned = launcher.launch(expand(config), initial_job_idx=0)
        for job in returned:
            _ = job.return_value
        return [returned]
