"""A search's space, read from Hydra's settings and overrides, and written as overrides again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig

from optsweep.cli import composition
from optsweep.cli.overrides import rewrite
from optsweep.cli.trust import refuse_hydra
from optsweep.config.checks import InputError
from optsweep.search.space import Space


def read_space(settings: DictConfig, overrides: Sequence[str]) -> Space:
    """What is searched and what is fixed.

    Args:
        settings: The node `hydra.sweeper`, whose `params` come first.
        overrides: A variant's and the command line's, which win.

    Raises:
        InputError: If there is nothing to search, or a condition cannot be used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hydra_plugins.hydra_optuna_sweeper._impl import (  # noqa: PLC0415
            create_params_from_overrides,
        )

    parameters = [f"{key}={value}" for key, value in (settings.params or {}).items()]
    dimensions, fixed, deleted = create_params_from_overrides([*parameters, *overrides])
    for key in (*dimensions, *fixed):
        refuse_hydra(key)
    if deleted:
        raise InputError(f"{deleted[0]}: a search cannot delete a key")
    conditions = {
        str(key): {
            str(other): tuple(values) if isinstance(values, ListConfig) else (values,)
            for other, values in wanted.items()
        }
        for key, wanted in (settings.conditions or {}).items()
    }
    searched = {key: each for key, each in dimensions.items() if key not in fixed}
    return Space(searched, conditions, {key: str(value) for key, value in fixed.items()})


def as_overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Chosen values as a command line has them."""
    return [f"{key}={_text(value)}" for key, value in chosen.items()]


def rewritten(overrides: str) -> list[str]:
    """Overrides of a file, with numbers where their keys are."""
    return rewrite(overrides.split(), composition.config_dir())


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
