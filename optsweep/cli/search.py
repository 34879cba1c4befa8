"""Hydra's sweeper for searches, which asks Optuna for cells and lets Hydra's launcher train them.

It is imported at every start, and Optuna only when there is something to search.
"""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SearchSweeper(Sweeper):
    """What `hydra/sweeper=optuna` names, with the keys of conf/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any) -> None:
        """Take the node's keys as they are."""
        self.settings = OmegaConf.create(settings)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's way of handing over what a sweeper needs."""
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        self.loop = (config, hydra_context.config_loader, launcher)

    def sweep(self, arguments: list[str]) -> None:
        """Search up to the total number of trials, then train what was found.

        Raises:
            InputError: If something about the search cannot be used.
        """
        from optsweep.cli.search_loop import SearchLoop  # noqa: PLC0415

        SearchLoop(self.settings, *self.loop).run(arguments)
