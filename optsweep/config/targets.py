"""What a dotted path in a configuration may name, judged by the object that is found.

A configuration may come from a stranger, and the text of a path proves nothing: through the
modules that a module imports, `optsweep.runs.os.system` leads out of the package. So every place
takes classes of one kind, or public functions, that are *defined in* modules made for it, and
nothing outside these modules is even imported. `allow_targets=[mypackage]`, on the command line
alone, adds a package of the user's.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from typing import Any

from optsweep.config.checks import InputError

# What modules were called when the first cells were named: that code moves to another room
# changes neither what a cell is nor what an older configuration may say.
_FORMER_MODULES = {
    "optsweep.models.initializers": "optsweep.initializers",
    "optsweep.optim.layerwise": "optsweep.optimizers",
    "optsweep.optim.schedules": "optsweep.schedules",
}
_PRESENT_MODULES = {former: present for present, former in _FORMER_MODULES.items()}

# Place -> modules whose classes or functions it takes, their submodules included.
_MODULES = {
    "model": ("optsweep.models", "torch.nn", "torchvision.models"),
    "optimizer": (
        *("optsweep.optim.layerwise", "optsweep.optim.penalties"),
        *("torch.optim", "pytorch_optimizer", "schedulefree"),
    ),
    "scheduler": (
        *("optsweep.optim.schedules", "optsweep.optim.after_epoch"),
        "torch.optim.lr_scheduler",
    ),
    "init": ("optsweep.models.initializers",),
    "dataset": ("optsweep.data.sources",),
    "hydra.sweeper.sampler": ("optuna.samplers", "hydra_plugins.hydra_optuna_sweeper"),
    "hydra.sweeper.pruner": ("optuna.pruners",),
}
_WANTED = {
    "model": "a torch.nn.Module of torch, torchvision or optsweep.models",
    "optimizer": "a torch.optim.Optimizer of torch, pytorch_optimizer or schedulefree",
    "scheduler": "a torch.optim.lr_scheduler or a function of optsweep.optim.schedules",
    "init": "a function of optsweep.models.initializers",
    "dataset": "a function of optsweep.data.sources",
    "hydra.sweeper.sampler": "a sampler of optuna.samplers",
    "hydra.sweeper.pruner": "a pruner of optuna.pruners",
}
# Packages that come with an extra of optsweep.
_EXTRAS = {"pytorch_optimizer": "optimizers", "schedulefree": "optimizers"}
# Nothing of these has to be allowed, and nothing more of them can be.
SHIPPED = ("optsweep", "torch", "torchvision", "optuna", *_EXTRAS)
_allowed: tuple[str, ...] = ()  # packages that the user trusts, in this process


def allow_targets(packages: Iterable[str]) -> None:
    """Let paths into these packages, and no others of earlier calls, be named."""
    global _allowed  # noqa: PLW0603 (a decision of the user's for the whole process)
    _allowed = tuple(packages)


def locate(place: str, path: str) -> Any:
    """Find what `path` names, if `place` takes it. Nothing is called.

    Args:
        place: A section, such as `optimizer`, or `hydra.sweeper.sampler`.
        path: Dotted path.

    Raises:
        InputError: If there is no such object, or it is not one that may be named there.
    """
    path = present(path)
    package = path.partition(".")[0]
    hint = "" if package in SHIPPED else f"; to trust a package: allow_targets=[{package}]"
    refusal = InputError(f"{place}._target_={path}: expected {_WANTED[place]}{hint}")
    modules = (*_MODULES[place], *_allowed)
    if not _is_in(path, modules):
        raise refusal
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        if package in _EXTRAS and getattr(error, "name", None) == package:
            extra = f"it is an extra; pip install 'optsweep[{_EXTRAS[package]}]'"
            raise InputError(f"{place}._target_={path}: {extra}") from error
        raise InputError(f"{place}._target_={path}: there is no such object ({error})") from error
    if not _is_in(getattr(found, "__module__", None) or "", modules) or not _KINDS[place](found):
        raise refusal
    return found


def present(path: str) -> str:
    """A dotted path as it stands today.

    >>> present("optsweep.schedules.warmup")
    'optsweep.optim.schedules.warmup'
    """
    return _renamed(path, _PRESENT_MODULES)


def lasting(path: str) -> str:
    """A dotted path as it stood when the first cells were named, for their hash.

    >>> lasting("optsweep.models.initializers.gaussian"), lasting("torch.optim.Adam")
    ('optsweep.initializers.gaussian', 'torch.optim.Adam')
    """
    return _renamed(path, _FORMER_MODULES)


def _renamed(path: str, names: dict[str, str]) -> str:
    module, _, name = path.rpartition(".")
    return f"{names.get(module, module)}.{name}"


def _is_in(path: str, modules: Iterable[str]) -> bool:
    return any(path == module or path.startswith(f"{module}.") for module in modules)


def _is_public_function(found: Any) -> bool:
    """Whether it is a function that stands under its own public name in its own module."""
    return (
        inspect.isfunction(found)
        and not found.__name__.startswith("_")
        and getattr(sys.modules.get(found.__module__), found.__name__, None) is found
    )


def _is_optimizer(found: Any) -> bool:
    from torch.optim import Optimizer  # noqa: PLC0415

    return inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer


def _is_schedule(found: Any) -> bool:
    from torch.optim.lr_scheduler import LRScheduler  # noqa: PLC0415

    if inspect.isclass(found):
        return issubclass(found, LRScheduler)
    return not _is_in(found.__module__, ["torch"]) and _is_public_function(found)


def _is_network(found: Any) -> bool:
    """A class of modules, or what builds one: a function that torchvision or the user lists."""
    from torch.nn import Module  # noqa: PLC0415

    if inspect.isclass(found):
        return issubclass(found, Module)
    if _is_in(found.__module__, ["torchvision"]):
        from torchvision.models import list_models  # noqa: PLC0415

        return found.__name__ in list_models() and _is_public_function(found)
    return _is_in(found.__module__, _allowed) and _is_public_function(found)


def _is_sampler(found: Any) -> bool:
    from optuna.samplers import BaseSampler  # noqa: PLC0415

    if inspect.isclass(found):
        return issubclass(found, BaseSampler)
    return found.__name__.startswith("create_nsga")  # the plugin's, for two of Optuna's classes


def _is_pruner(found: Any) -> bool:
    from optuna.pruners import BasePruner  # noqa: PLC0415

    return inspect.isclass(found) and issubclass(found, BasePruner) and found is not BasePruner


_KINDS: dict[str, Callable[[Any], bool]] = {
    "model": _is_network,
    "optimizer": _is_optimizer,
    "scheduler": _is_schedule,
    "init": _is_public_function,
    "dataset": _is_public_function,
    "hydra.sweeper.sampler": _is_sampler,
    "hydra.sweeper.pruner": _is_pruner,
}
