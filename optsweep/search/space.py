"""The space of a search: what varies between which ends, and where it applies."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import BaseTrial

from optsweep.config.checks import InputError, as_text, nearest

# A best value in the outermost twentieth of its range may have a better one beyond.
_EDGE = 0.05

Point = Mapping[str, Any]  # a value for every key that applies


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
    conditions: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty space, and conditions that can never hold or come too late."""
        if not self.dimensions:
            raise InputError(
                "a search needs something to search, such as "
                "weight_decay='tag(log,interval(1e-6,1e-1))'"
            )
        for key in self.conditions:
            if key not in self.dimensions and key not in self.fixed:
                known = [*self.dimensions, *self.fixed]
                raise InputError(
                    f"hydra.sweeper.conditions.{key}: it is not searched; {nearest(key, known)}"
                )
        known = [*self.fixed]
        for key in self.dimensions:
            for other, wanted in self.conditions.get(key, {}).items():
                place = f"hydra.sweeper.conditions.{key}"
                if other not in known:
                    raise InputError(
                        f"{place}: {other} is not chosen before it; {nearest(other, known)}"
                    )
                for value in wanted if other in self.dimensions else ():
                    if not _can_be(self.dimensions[other], value):
                        raise InputError(
                            f"{place}.{other}={text_of(value)}: it cannot occur; "
                            f"{_told(self.dimensions[other])}"
                        )
            known.append(key)

    def choose(self, value_of: Callable[[str, BaseDistribution], Any]) -> dict[str, Any]:
        """A point of values that `value_of` gives for every key that applies."""
        chosen: dict[str, Any] = {}
        for key, distribution in self.dimensions.items():
            if self._applies(key, chosen):
                chosen[key] = value_of(key, distribution)
        return chosen

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Let the trial choose a value for every key that applies."""
        return self.choose(lambda key, distribution: _suggest(trial, key, distribution))

    def points(self) -> Iterator[Point | None]:
        """All points, each once, and None in place of any that lie in a continuum."""
        return self._points(list(self.dimensions), {})

    def is_exhausted(self, tried: set[str]) -> bool:
        """Whether there is no point whose `identity` is not among those that were tried."""
        return all(point is not None and identity(point) in tried for point in self.points())

    def examples(self) -> list[dict[str, Any]]:
        """A few points that have every value of a list among them, and both ends of every range.

        Those of a key that seldom applies may be missing.
        """
        ends = {key: _examples(each) for key, each in self.dimensions.items()}
        return [
            self._of({key: values[index % len(values)] for key, values in ends.items()})
            for index in range(max(2, *map(len, ends.values())))
        ]

    def example_values(self) -> Iterator[tuple[str, Any]]:
        """Every value of a list and both ends of every range, with its key."""
        for key, distribution in self.dimensions.items():
            for value in _examples(distribution):
                yield key, value

    def with_value(self, key: str, value: Any, others: Point) -> list[dict[str, Any]]:
        """Two points that have a value, what this depends on, and else the values of `others`.

        A key that is in none of these has its first value in one of them, its last in the other.
        The value is missing if a setting that all trials share rules it out.
        """
        needed = {key: value}
        for each in reversed([*self.dimensions]):
            if each in needed:
                for other, wanted in self.conditions.get(each, {}).items():
                    if other in self.dimensions:
                        known = _examples(self.dimensions[other])
                        fitting = [one for one in known if _is_among(one, wanted)]
                        needed.setdefault(other, next(iter(fitting), wanted[0]))
        ends = ({each: _examples(d)[end] for each, d in self.dimensions.items()} for end in (0, -1))
        return [self._of({**of_end, **others, **needed}) for of_end in ends]

    def to_mapping(self) -> dict[str, Any]:
        """The dimensions as plain data, to be compared with those of another day."""
        return {
            key: json.loads(distribution_to_json(each)) for key, each in self.dimensions.items()
        }

    def _of(self, values: Point) -> dict[str, Any]:
        """The point of given values, without those that do not apply."""
        return self.choose(lambda key, _: values[key])

    def _applies(self, key: str, chosen: Point) -> bool:
        return all(
            _is_among(chosen.get(other, self.fixed.get(other)), wanted)
            for other, wanted in self.conditions.get(key, {}).items()
        )

    def _points(self, keys: Sequence[str], chosen: Point) -> Iterator[Point | None]:
        if not keys:
            yield chosen
        elif not self._applies(keys[0], chosen):
            yield from self._points(keys[1:], chosen)
        else:
            for value in _values(self.dimensions[keys[0]]):
                if value is None:
                    yield None
                else:
                    yield from self._points(keys[1:], {**chosen, keys[0]: value})


def identity(point: Point) -> str:
    """Text that two points have in common if they are the same."""
    return json.dumps({key: _shortened(value) for key, value in point.items()}, sort_keys=True)


def text_of(value: Any) -> str:
    """A value as a command line has it.

    >>> text_of(True), text_of(None), text_of(1e-3)
    ('true', 'null', '0.001')
    """
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else as_text(value)


def only_value(distribution: BaseDistribution) -> Any:
    """The value of a range or a list that has just one."""
    return _examples(distribution)[0]


def _shortened(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _is_among(value: Any, wanted: Sequence[Any]) -> bool:
    return any(_is_same(value, each) for each in wanted)


def _is_same(value: Any, other: Any) -> bool:
    """Whether two values are the same on a command line, such as 1e-3 and 0.001."""
    first, second = text_of(value), text_of(other)
    try:
        return first == second or float(first) == float(second)
    except ValueError:
        return False


def _can_be(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return _is_among(value, distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and distribution.low <= value <= distribution.high


def _told(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"valid are {', '.join(map(text_of, distribution.choices))}"
    low, high = _examples(distribution)
    return f"valid are numbers from {low} to {high}"


def _values(distribution: BaseDistribution) -> Iterator[Any]:
    """All values, or None for those of a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        yield from dict.fromkeys(distribution.choices)
    elif isinstance(distribution, IntDistribution):
        yield from range(distribution.low, distribution.high + 1, distribution.step)
    else:
        assert isinstance(distribution, FloatDistribution)
        low, high, step = distribution.low, distribution.high, distribution.step
        if low == high:
            yield low
        elif step is None:
            yield None
        else:
            yield from (low + index * step for index in range(round((high - low) / step) + 1))


def _suggest(trial: BaseTrial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_float(key, low, high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(key, low, high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(key, distribution.choices)


def _examples(distribution: BaseDistribution) -> tuple[Any, ...]:
    """All values of a list, the ends of a range."""
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
