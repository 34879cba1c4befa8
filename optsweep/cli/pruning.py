"""A cell of a search under an Optuna pruner: every epoch is reported, and may be the last.

The pruner decides by other trials, so that what it ends is not what the cell's name stands for:
no result is kept of it, and the cell can still be trained whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

if TYPE_CHECKING:
    from optsweep.training.loop import Epoch


class PrunedError(Exception):
    """An Optuna pruner has ended a cell's training."""

    def __init__(self, epoch: int, objective: float) -> None:
        """End it after an epoch with the mean validation accuracy that it had."""
        super().__init__(f"pruned after epoch {epoch}, at {objective:.4f}")
        self.objective = objective


def reported(composed: DictConfig, on_epoch: Callable[[Epoch], None]) -> Callable[[Epoch], None]:
    """`on_epoch`, and the report to the search if the cell is a trial of one with a pruner.

    Args:
        composed: The cell's configuration.
        on_epoch: Told of every epoch before the search is.
    """
    hydra = HydraConfig.get()
    settings: Any = hydra.sweeper
    if settings.get("trial") is None:
        return on_epoch
    import numpy as np  # noqa: PLC0415

    from optsweep.cli.search_settings import pruner_of, study_name, variants_of  # noqa: PLC0415
    from optsweep.runs import mean_accuracy  # noqa: PLC0415
    from optsweep.search.pruning import Reporter  # noqa: PLC0415
    from optsweep.search.storage import connect, storage_url  # noqa: PLC0415

    variant, number = settings.trial
    url = storage_url(settings.storage, Path(hydra.sweep.dir) / str(composed.name))
    name = study_name(str(composed.name), list(variants_of(settings))[variant])
    reporter = Reporter(connect(url), name, number, pruner_of(settings))

    def told(epoch: Epoch) -> None:
        on_epoch(epoch)
        if epoch.val is None or not 0 < epoch.epoch < composed.trainer.epochs:
            return
        accuracies = np.where(epoch.alive, epoch.val.accuracy, np.nan).tolist()
        if reporter.is_hopeless(epoch.epoch, accuracies):
            raise PrunedError(epoch.epoch, mean_accuracy(accuracies))

    return told
