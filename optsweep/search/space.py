"""The space of a search: what varies between which ends, and where it applies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import BaseTrial, FixedTrial

from optsweep.config.checks import InputError, nearest

# A best value in the outermost twentieth of its range may have a better one beyond.
_EDGE = 0.05


@dataclass(frozen=True)
class Space:
    """What a search may choose.

    Attributes:
        dimensions: Override key -> its values, in the order in which they are chosen.
        conditions: Key -> the values that other keys must have for it to apply. Another key
            that is not searched is looked up in `fixed`.
        fixed: Settings that all trials share, as text.
    """

    dimensions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty space, and conditions on what is chosen later or not at all."""
        if not self.dimensions:
            raise InputError(
                "a search needs something to search, such as "
                "weight_decay='tag(log,interval(1e-6,1e-1))'"
            )
        known = [*self.fixed]
        for key in self.dimensions:
            for other in self.conditions.get(key, ()):
                if other not in known:
                    raise InputError(
                        f"hydra.sweeper.conditions.{key}: {other} is not chosen before it; "
                        f"{nearest(other, known)}"
                    )
            known.append(key)

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Let the trial choose a value for every key that applies."""
        chosen: dict[str, Any] = {}
        for key, distribution in self.dimensions.items():
            conditions = self.conditions.get(key, {})
            if all(
                str(chosen.get(other, self.fixed.get(other))) in map(str, wanted)
                for other, wanted in conditions.items()
            ):
                chosen[key] = _suggest(trial, key, distribution)
        return chosen

    def corners(self) -> list[dict[str, Any]]:
        """Two sets of values for a check beforehand: the least and the greatest of every key."""
        ends = {key: _ends(each) for key, each in self.dimensions.items()}
        return [
            self.suggest(FixedTrial({key: each[which] for key, each in ends.items()}))
            for which in (0, -1)
        ]

    def to_mapping(self) -> dict[str, Any]:
        """The dimensions as plain data, to be compared with those of another day."""
        return {
            key: json.loads(distribution_to_json(each)) for key, each in self.dimensions.items()
        }


def _suggest(trial: BaseTrial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_float(key, low, high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(key, low, high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(key, distribution.choices)


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low, distribution.high


def at_edge(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a number lies in the outermost twentieth of its range; words have no edge.

    Zero is a natural end, beyond which there is nothing.

    >>> at_edge(FloatDistribution(1e-6, 1e-1, log=True), 0.09)
    True
    >>> at_edge(FloatDistribution(0.0, 1.0), 0.01)
    False
    """
    if isinstance(distribution, CategoricalDistribution):
        return False
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = float(distribution.low), float(distribution.high)
    natural = low == 0
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    if low == high:
        return False
    place = (value - low) / (high - low)
    return place > 1 - _EDGE or (place < _EDGE and not natural)
