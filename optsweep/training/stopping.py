"""Rules that end a hopeless cell early. A cell stays a function of its configuration.

What is looked at is the validation accuracy after every epoch, averaged over the seeds of the
stack, with a diverged seed counted as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optsweep.config.checks import InputError, as_text, integer, known_keys, number


@dataclass(frozen=True)
class StoppingConfig:
    """When to stop; nothing is stopped as it stands.

    Attributes:
        patience: Epochs without a new best accuracy after which a cell ends; None: never.
        floor: Accuracies that the best epoch so far has to reach, the first after epoch 1;
            beyond its end nothing is asked for.
    """

    patience: int | None = None
    floor: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything can be stopped."""
        return self.patience is not None or bool(self.floor)


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


def stopping_config(values: Mapping[str, Any], val_size: int) -> StoppingConfig:
    """Validate the section `stopping` of a configuration.

    Raises:
        InputError: If a value cannot be used, or there are no validation examples to judge by.
    """
    known_keys("stopping.", values, list(StoppingConfig.__dataclass_fields__))
    patience, floor = values.get("patience"), values.get("floor", ())
    if not isinstance(floor, Sequence) or isinstance(floor, str):
        raise InputError(f"stopping.floor={floor}: expected a list of accuracies such as [0,0.5]")
    for accuracy in floor:
        if number("stopping.floor", accuracy) > 1:
            raise InputError(f"stopping.floor={as_text(floor)}: an accuracy is at most 1")
    config = StoppingConfig(
        patience=None if patience is None else integer("stopping.patience", patience, 1, 10**6),
        floor=tuple(map(float, floor)),
    )
    if config and not val_size:
        raise InputError("stopping needs validation examples to judge by; give dataset.val_size")
    return config


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
