"""The sweepers that Hydra is given: one for grids, one for searches.

Both are imported at every start; what they do is imported when there is something to sweep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class GridSweeper(Sweeper):
    """What `hydra/sweeper=basic` names.

    Hydra's own composes all cells once more before the first is trained, to find mistakes;
    `optsweep.cli.validation` has found them by then. And its launchers have cells composed anew.
    """

    def __init__(self, params: Any, pairs: Any) -> None:
        """Take the node's keys, which `optsweep.cli.grids.expand` reads from the configuration."""
        del params, pairs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's way of handing over what a sweeper needs."""
        _, launcher = _loader_and_launcher(hydra_context, task_function, config)
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


class SearchSweeper(Sweeper):
    """What `hydra/sweeper=optuna` names, with the keys of conf/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any) -> None:
        """Take the node's keys as they are."""
        self.settings = OmegaConf.create(settings)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's way of handing over what a sweeper needs."""
        self.loop = (config, *_loader_and_launcher(hydra_context, task_function, config))

    def sweep(self, arguments: list[str]) -> None:
        """Search up to the total number of trials, then train what was found.

        Raises:
            InputError: If something about the search cannot be used.
        """
        from optsweep.cli.search import SearchLoop  # noqa: PLC0415

        del arguments  # the configuration has them
        SearchLoop(self.settings, *self.loop).run()


def _loader_and_launcher(
    hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
) -> tuple[ConfigLoader, Launcher]:
    """What composes cells, Hydra's part sparingly, and what trains them."""
    from optsweep.cli.cell_loader import CellLoader  # noqa: PLC0415

    loader = cast(ConfigLoader, CellLoader(hydra_context.config_loader))
    hydra_context = dataclasses.replace(hydra_context, config_loader=loader)
    launcher = Plugins.instance().instantiate_launcher(
        config=config, hydra_context=hydra_context, task_function=task_function
    )
    return loader, launcher
