"""The settings of a search, the node `hydra.sweeper`: what each may be, and what it makes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

import joblib
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler

from optsweep.config.checks import (
    InputError,
    as_text,
    check_arguments,
    first_line,
    integer,
    known_keys,
    number,
    parameters_of,
)
from optsweep.config.targets import locate

_KEYS = (
    "sampler",
    "pruner",
    "n_trials",
    "n_jobs",
    "storage",
    "params",
    "pairs",
    "conditions",
    "variants",
    "baselines",
    "standard_errors",
    "stop_margin",
    "stale_seconds",
    "final_seed",
    "final_num_seeds",
    "trial",
)
_VARIANTS = (
    "expected a list such as ['optimizer=adam']; in a file, each may have keys with ranges of its "
    "own below it, as in conf/search/tuned_comparison.yaml"
)
_MAX_JOBS = 8  # trials at once if nobody says otherwise, for each learns from those before it
# What Optuna and its parts say of arguments that they cannot use.
_REFUSALS = (ValueError, TypeError, ImportError, NotImplementedError, AssertionError)
# What Optuna's signatures say of plain arguments.
_ANNOTATIONS: dict[str, Any] = {
    text: annotation
    for kind in (bool, int, float, str)
    for text, annotation in ((kind.__name__, kind), (f"{kind.__name__} | None", kind | None))
}


def check_settings(settings: DictConfig, given: Mapping[str, Any]) -> None:
    """Find out beforehand whether all settings can be used.

    Args:
        settings: The node `hydra.sweeper`.
        given: Those keys of it that the command line names, with their values.

    Raises:
        InputError: If one cannot.
    """
    known_keys("hydra.sweeper.", settings, _KEYS)
    if settings.trial is not None:
        raise InputError(
            f"hydra.sweeper.trial={as_text(settings.trial)}: the search itself sets it"
        )
    integer("hydra.sweeper.n_trials", settings.n_trials, 1, 10**6)
    if settings.n_jobs is not None:
        integer("hydra.sweeper.n_jobs", settings.n_jobs, 1, 10**4)
    number("hydra.sweeper.standard_errors", settings.standard_errors)
    if number("hydra.sweeper.stale_seconds", settings.stale_seconds) == 0:
        raise InputError("hydra.sweeper.stale_seconds=0: every trial would be taken for dead")
    if settings.stop_margin is not None:
        number("hydra.sweeper.stop_margin", settings.stop_margin)
    integer("hydra.sweeper.final_seed", settings.final_seed, 0, 2**31 - 1)
    integer("hydra.sweeper.final_num_seeds", settings.final_num_seeds, 1, 1000)
    for key in ("params", "conditions"):
        if settings[key] is not None and not isinstance(settings[key], DictConfig):
            raise InputError(f"hydra.sweeper.{key}={settings[key]}: expected keys and their values")
    for key, value in (settings.params or {}).items():
        if "," not in str(key):
            _check_range(f"hydra.sweeper.params.{key}", value)
    variants_of(settings)
    _check_texts("hydra.sweeper.baselines", settings.baselines)
    if settings.pruner is not None and given.get("hydra.sweeper.stop_margin") is not None:
        raise InputError(
            "hydra.sweeper.stop_margin, hydra.sweeper.pruner: either decides which cells end "
            "early; give one of them"
        )


def variants_of(settings: DictConfig) -> dict[str, list[str]]:
    """The variants of a search, by name: the overrides that each has before the command line's.

    A variant is a text of overrides, its name, or such a text with ranges of its own below it.
    Without variants, the whole search is the one without a name.

    Raises:
        InputError: If that is not what is there.
    """
    key, given = "hydra.sweeper.variants", settings.variants
    if given is None:
        return {"": []}
    if not isinstance(given, ListConfig):
        raise InputError(f"{key}={as_text(given)}: {_VARIANTS}")
    variants: dict[str, list[str]] = {}
    for each in given:
        named: Any = {each: {}} if isinstance(each, str) else each
        if not isinstance(named, (dict, DictConfig)) or len(named) != 1:
            raise InputError(f"{key}={as_text(given)}: {_VARIANTS}")
        ((key_of_variant, ranges),) = named.items()
        name = str(key_of_variant)
        if not isinstance(ranges, (dict, DictConfig)):
            raise InputError(f"{key}={as_text(given)}: {_VARIANTS}")
        if name in variants:
            raise InputError(f"{key}: {name} is there twice")
        for dimension, value in ranges.items():
            _check_range(f"{key}.{name}.{dimension!s}", value)
        own = [f"{dimension!s}={value!s}" for dimension, value in ranges.items()]
        variants[name] = [*name.split(), *own]
    return variants or {"": []}


def _check_range(key: str, value: Any) -> None:
    if not isinstance(value, (str, int, float)):
        raise InputError(
            f"{key}={as_text(value)}: expected a range or a list as on a command line, such as "
            "choice(a,b)"
        )


def _check_texts(key: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, ListConfig) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{key}={as_text(value)}: expected a list such as ['optimizer=adam']")
    for each in value:
        if list(value).count(each) > 1:
            raise InputError(f"{key}: {each} is there twice")


def study_name(name: str, variant: str) -> str:
    """The name of an Optuna study in its storage."""
    return f"{name}: {variant}" if variant else name


def sampler_of(settings: DictConfig, seed: int) -> BaseSampler:
    """The sampler that is configured, with another seed.

    Raises:
        InputError: If it cannot be made.
    """
    target = str(settings.sampler.get("_target_"))
    if target.endswith("GridSampler"):
        raise InputError("hydra/sweeper/sampler=grid: for a grid, use --multirun with lists")
    make = locate("hydra.sweeper.sampler", target)
    arguments = _arguments(settings.sampler, make) | {"seed": seed}
    if make is QMCSampler:  # its points are those of one sequence, and chance fills in the rest
        arguments |= {"seed": seed_of(settings), "independent_sampler": RandomSampler(seed)}
    return _made("hydra.sweeper.sampler", make, arguments)


def seed_of(settings: DictConfig) -> int:
    """The seed of a sampler's chance: 0 if none is given, so that every search can be repeated."""
    seed = settings.sampler.get("seed")
    return 0 if seed is None else integer("hydra.sweeper.sampler.seed", seed, 0, 2**32 - 1)


def pruner_of(settings: DictConfig) -> BasePruner:
    """The pruner that is configured.

    Raises:
        InputError: If it cannot be made.
    """
    return _pruner(settings.pruner)


def num_jobs(settings: DictConfig, launcher: DictConfig) -> int:
    """Trials at once: as many as the launcher runs side by side, up to a limit.

    Args:
        settings: The node `hydra.sweeper`.
        launcher: The node `hydra.launcher`.

    Raises:
        InputError: If more are asked for than the launcher can run.
    """
    key = "array_parallelism" if "array_parallelism" in launcher else "n_jobs"
    at_once = joblib.effective_n_jobs(launcher.get(key) or 1)
    if settings.n_jobs is None:
        return min(at_once, _MAX_JOBS)
    is_local = launcher._target_.endswith(".LocalLauncher")  # as many processes as it is given
    if settings.n_jobs > at_once and not is_local:
        more = f"hydra.launcher.{key}={settings.n_jobs}"
        raise InputError(
            f"hydra.sweeper.n_jobs={settings.n_jobs}: the launcher runs {at_once} at once; add "
            + (more if key in launcher else f"hydra/launcher=joblib {more}")
        )
    return settings.n_jobs


def _pruner(node: Any) -> BasePruner:
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise InputError(
            f"hydra.sweeper.pruner={as_text(node)}: expected _target_ and its settings, such as "
            "hydra/sweeper/pruner=hyperband"
        )
    make = locate("hydra.sweeper.pruner", str(node.get("_target_")))
    arguments = _arguments(node, make)
    if isinstance(node.get("wrapped_pruner"), DictConfig):
        arguments["wrapped_pruner"] = _pruner(node.wrapped_pruner)
    return _made("hydra.sweeper.pruner", make, arguments)


def _arguments(node: DictConfig, make: Callable[..., Any]) -> dict[str, Any]:
    """Settings without those that are not given and that this version of Optuna does not know."""
    arguments: Any = OmegaConf.to_container(node, resolve=True)
    known = parameters_of(make)
    return {
        key: value
        for key, value in arguments.items()
        if key != "_target_" and (value is not None or key in known)
    }


def _made(place: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    plain = {key: value for key, value in arguments.items() if not key.endswith("_pruner")}
    check_arguments(place, _resolved(parameters_of(make)), plain)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's word that an option is experimental
            return make(**arguments)
    except InputError:
        raise
    except _REFUSALS as error:
        raise InputError(f"{place}: {first_line(error)}") from error


def _resolved(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Parameters with annotations that are types, or none where another leaves all as text."""
    return {
        key: each.replace(annotation=_ANNOTATIONS.get(each.annotation, Parameter.empty))
        if isinstance(each.annotation, str)
        else each
        for key, each in parameters.items()
    }
