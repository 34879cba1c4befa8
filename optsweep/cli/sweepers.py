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

from optsweep import interrupts


class GridSweeper(Sweeper):
    """What `hydra/sweeper=basic` names.

    Hydra's own composes all cells once more before the first is trained, to find mistakes; here
    they are found before anything is launched. And its launchers have cells composed anew.
    """

    def __init__(self, params: Any, pairs: Any) -> None:
        """Take the node's keys, which `optsweep.cli.grids.expand` reads from the configuration."""
        del params, pairs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's way of handing over what a sweeper needs."""
        self.grid = (hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Check all cells, then train them; see `train_grid`."""
        from optsweep.cli.grid_training import train_grid  # noqa: PLC0415

        del arguments  # the configuration has them
        context, task, config = self.grid

        def launcher(of_cell: TaskFunction) -> Launcher:
            return _loader_and_launcher(context, of_cell, config)[1]

        train_grid(config, task, launcher)


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


class ApartLauncher(Launcher):
    """A launcher of other processes, which leave Ctrl-C to this one."""

    def __init__(self, launcher: Launcher) -> None:
        """Take one that is set up."""
        self._launcher = launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's way of handing over what a launcher needs."""
        self._launcher.setup(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run cells, in a thread of their own here."""
        try:
            return interrupts.apart(lambda: self._launcher.launch(job_overrides, initial_job_idx))
        except KeyboardInterrupt:
            end_workers()
            raise


def end_workers() -> None:
    """Kill joblib's processes, if nobody has told them to end: of a program that goes on."""
    if not interrupts.received():
        from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415 (seldom needed)

        get_reusable_executor(max_workers=1, reuse=False, kill_workers=True).shutdown()


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
    return loader, launcher if is_trained_here(config) else ApartLauncher(launcher)


def is_trained_here(config: DictConfig) -> bool:
    """Whether cells are trained by this process, and not by others that a launcher starts."""
    return str(config.hydra.launcher._target_).endswith(".BasicLauncher")
