"""Rules that end a hopeless cell early. A cell stays a function of its configuration.

What is looked at is the validation accuracy after every epoch, averaged over the seeds of the
stack, with a diverged seed counted as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optsweep.config.schema import StoppingConfig

NEVER = StoppingConfig()


@dataclass(frozen=True)
class Stop:
    """Why a cell ended early.

    Attributes:
        epoch: The last one trained.
        rule: `patience` or `floor`.
        best: Best mean validation accuracy up to then.
        wanted: What it would have had to be (floor), or exceed in the last epochs (patience).
    """

    epoch: int
    rule: str
    best: float
    wanted: float


def find_stop(config: StoppingConfig, accuracies: Sequence[float]) -> Stop | None:
    """Tell whether a cell should end now.

    Args:
        config: The rules.
        accuracies: Mean validation accuracy after every epoch so far, from epoch 1.

    >>> find_stop(StoppingConfig(floor=(0.0, 0.5)), [0.2, 0.3])
    Stop(epoch=2, rule='floor', best=0.3, wanted=0.5)
    >>> find_stop(StoppingConfig(patience=2), [0.5, 0.4, 0.5])
    Stop(epoch=3, rule='patience', best=0.5, wanted=0.5)
    """
    epoch = len(accuracies)
    if not epoch:
        return None
    best = max(accuracies)
    if epoch <= len(config.floor) and best < config.floor[epoch - 1]:
        return Stop(epoch, "floor", best, config.floor[epoch - 1])
    if config.patience is not None and epoch - 1 - list(accuracies).index(best) >= config.patience:
        return Stop(epoch, "patience", best, best)
    return None
