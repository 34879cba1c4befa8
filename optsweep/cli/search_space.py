"""What a search varies, from its file and the command line: ranges, lists, conditions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
)
from omegaconf import DictConfig, ListConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution

from optsweep.cli.composition import refuse_hydra
from optsweep.cli.grids import pairs, sweep_overrides
from optsweep.cli.overrides import VALUE_KEYS, shown
from optsweep.config.checks import InputError, as_text, first_line
from optsweep.search.space import Space

# What all trials share, for by these they are compared, or what no result depends on. A name
# stands for all keys below it as well.
_SHARED = (
    "seed",
    "num_seeds",
    "dataset",
    "stopping",
    "record",
    "rerun",
    "name",
    "stack_cells",
    "allow_targets",
    "trainer.num_threads",
    "trainer.device",
    "trainer.engine",
    "experiment",
    "search",
)
_PLAIN = (str, int, float)


def read_space(config: DictConfig, variant: Sequence[str]) -> Space:
    """What is searched and what is fixed.

    Args:
        config: The composed configuration of the whole, with its `hydra` node, whose sweeper has
            `params`, which come first, and whose command line wins.
        variant: A variant's overrides, which stand between the two.

    Raises:
        InputError: If there is nothing to search, or something cannot be searched.
    """
    dimensions: dict[str, BaseDistribution] = {
        keys: CategoricalDistribution([" ".join(overrides) for overrides in sets])
        for keys, sets in pairs(config, variant).items()
    }
    for key in ",".join(dimensions).split(","):
        _refuse_shared(key, key)
    fixed = {}
    for key, override in _parsed(sweep_overrides(config, variant)).items():
        refuse_hydra(key)
        if override.is_delete():
            raise InputError(f"{override.input_line}: a search cannot delete a key")
        if override.is_sweep_override():
            _refuse_shared(key, str(override.input_line))
            dimensions[key] = _distribution(override)
        else:
            fixed[key] = override.get_value_element_as_str()
    params = config.hydra.sweeper.params or {}
    if params and not dimensions:
        told = " ".join([*variant, *map(shown, config.hydra.overrides.task)])
        raise InputError(f"{told}: nothing is left to search of {', '.join(map(str, params))}")
    known = [*dimensions, *fixed]
    conditions = {
        _spelt(key, known): {_spelt(other, known): values for other, values in _wanted(key, wanted)}
        for key, wanted in _conditions(config.hydra.sweeper.conditions or {})
    }
    return Space(dimensions, conditions, fixed)


def _parsed(overrides: Sequence[str]) -> dict[str, Override]:
    """Overrides by key, of which the last one counts."""
    loader = GlobalHydra.instance().config_loader()  # tells the options of glob(a*)
    parsed = OverridesParser.create(loader).parse_overrides(list(overrides))
    return {override.get_key_element(): override for override in parsed}


def _setting(key: str) -> str:
    """What a key decides, by its full name: `momentum` chooses `optimizer.momentum`."""
    plain = key.lstrip("+~")
    return VALUE_KEYS.get(plain, plain)


def _spelt(key: Any, known: Sequence[str]) -> str:
    """A key as it stands among those that are known, where it may have its other name."""
    return next((each for each in known if _setting(each) == _setting(str(key))), str(key))


def _refuse_shared(key: str, text: str) -> None:
    setting = _setting(key)
    for shared in _SHARED:
        if setting == shared or setting.startswith(f"{shared}."):
            raise InputError(
                f"{text}: a search cannot choose this; data, seeds, stopping rules "
                "and what no result depends on are the same for all trials"
            )


def _distribution(override: Override) -> BaseDistribution:
    """The values of a range or a list.

    Raises:
        InputError: If Optuna does not take it, or it has a tag without a meaning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hydra_plugins.hydra_optuna_sweeper._impl import (  # noqa: PLC0415
            create_optuna_distribution_from_override,
        )

    value = override.value()
    if isinstance(value, Sweep):
        _check_range(str(override.input_line), value)
    try:
        if isinstance(value, Glob):
            return CategoricalDistribution(list(map(str, override.sweep_string_iterator())))
        return create_optuna_distribution_from_override(override)
    except (ValueError, ArithmeticError, NotImplementedError, AssertionError) as error:
        raise InputError(f"{override.input_line}: {first_line(error)}") from error


def _check_range(text: str, value: Sweep) -> None:
    is_interval = isinstance(value, IntervalSweep)
    for tag in sorted(value.tags):
        if tag != "log":
            raise InputError(f"{text}: there is no tag {tag}; did you mean log?")
        if not is_interval:
            raise InputError(f"{text}: the tag log is for an interval, such as interval(1e-4,1)")
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None
        assert high is not None
        if not (float("-inf") < low <= high < float("inf")):
            raise InputError(f"{text}: expected two finite numbers, the lower one first")
        if "log" in value.tags and low <= 0:
            raise InputError(f"{text}: on a logarithmic scale, expected numbers above 0")
    if isinstance(value, RangeSweep) and value.step == 0:
        raise InputError(f"{text}: expected a step that is not 0")


def _conditions(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and their conditions; on a command line the dots of a key make mappings of its parts."""
    if not isinstance(node, (dict, DictConfig)):
        raise InputError(
            f"hydra.sweeper.conditions={as_text(node)}: expected keys with their conditions, such "
            "as {optimizer.momentum: {optimizer: sgd}}"
        )
    for key, value in node.items():
        nested = isinstance(value, DictConfig) and len(value) > 0
        if nested and all(isinstance(each, DictConfig) for each in value.values()):
            yield from _conditions(value, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}", value


def _wanted(key: Any, wanted: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Other keys and the values that they must have for `key` to apply."""
    if not isinstance(wanted, DictConfig):
        raise InputError(
            f"hydra.sweeper.conditions.{key}={wanted}: expected other keys with their values, "
            "such as {optimizer: sgd}"
        )
    for other, value in wanted.items():
        values = tuple(value) if isinstance(value, ListConfig) else (value,)
        if not values or not all(each is None or isinstance(each, _PLAIN) for each in values):
            raise InputError(
                f"hydra.sweeper.conditions.{key}.{other!s}={as_text(values)}: expected a value "
                "or a list of values"
            )
        yield str(other), values
