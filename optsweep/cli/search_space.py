"""What a search varies, from its file and the command line: ranges, lists, conditions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
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

from optsweep.cli import composition
from optsweep.cli.overrides import VALUE_KEYS, rewrite
from optsweep.cli.trust import refuse_hydra
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
    "allow_targets",
    "trainer.num_threads",
    "trainer.device",
    "trainer.engine",
    "experiment",
    "search",
)
_PLAIN = (str, int, float)


def read_space(settings: DictConfig, overrides: Sequence[str]) -> Space:
    """What is searched and what is fixed.

    Args:
        settings: The node `hydra.sweeper`, whose `params` come first.
        overrides: A variant's and the command line's, which win.

    Raises:
        InputError: If there is nothing to search, or something cannot be searched.
    """
    parameters = [f"{key}={_text(key, value)}" for key, value in (settings.params or {}).items()]
    from_file = _parsed(rewrite(parameters, composition.config_dir()))
    given = _parsed(overrides)
    decided = {_setting(key) for key in given}
    merged = {key: each for key, each in from_file.items() if _setting(key) not in decided} | given
    dimensions, fixed = {}, {}
    for key, override in merged.items():
        refuse_hydra(key)
        if override.is_delete():
            raise InputError(f"{override.input_line}: a search cannot delete a key")
        if override.is_sweep_override():
            _refuse_shared(key, override)
            dimensions[key] = _distribution(override)
        else:
            fixed[key] = override.get_value_element_as_str()
    known = [*dimensions, *fixed]
    conditions = {
        _spelt(key, known): {_spelt(other, known): values for other, values in _wanted(key, wanted)}
        for key, wanted in (settings.conditions or {}).items()
    }
    return Space(dimensions, conditions, fixed)


def _text(key: Any, value: Any) -> str:
    if not isinstance(value, _PLAIN):
        raise InputError(
            f"hydra.sweeper.params.{key}={value}: expected a range or a list as on a command "
            "line, such as choice(a,b)"
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(overrides: Sequence[str]) -> dict[str, Override]:
    """Overrides by key, of which the last one counts.

    Raises:
        InputError: If two keys decide the same setting.
    """
    loader = GlobalHydra.instance().config_loader()  # tells the options of glob(a*)
    found: dict[str, Override] = {}
    for override in OverridesParser.create(loader).parse_overrides(list(overrides)):
        key = override.get_key_element()
        for other in found:
            if other != key and _setting(other) == _setting(key):
                raise InputError(f"{other}, {key}: both decide {_setting(key)}; give one of them")
        found[key] = override
    return found


def _setting(key: str) -> str:
    """What a key decides, by its full name: `momentum` chooses `optimizer.momentum`."""
    plain = key.lstrip("+~")
    return VALUE_KEYS.get(plain, plain)


def _spelt(key: Any, known: Sequence[str] | Mapping[str, Any]) -> str:
    """A key as it stands among those that are known, where it may have its other name."""
    return next((each for each in known if _setting(each) == _setting(str(key))), str(key))


def _refuse_shared(key: str, override: Override) -> None:
    setting = _setting(key)
    for shared in _SHARED:
        if setting == shared or setting.startswith(f"{shared}."):
            raise InputError(
                f"{override.input_line}: a search cannot choose this; data, seeds, stopping rules "
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
