"""From a dotted path in a configuration to the Python object it names."""

from __future__ import annotations

import pkgutil
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from optsweep.config.checks import InputError

# A configuration may come from a stranger, so a path must not reach any callable there is.
_TRUSTED = ("optsweep.", "torch.")


def locate(group: str, path: str) -> Any:
    """Import what `path` names.

    Args:
        group: The config group that asked, for the message.
        path: Dotted path; outside of optsweep and torch only a subclass of
            `torch.optim.Optimizer` or `torch.optim.lr_scheduler.LRScheduler`.

    Raises:
        InputError: If there is no such object, or it is not one that may be named.
    """
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{group}._target_={path}: there is no such object ({error})") from error
    trusted = path.startswith(_TRUSTED)
    if not callable(found) or not (trusted or _is_subclass(found, (Optimizer, LRScheduler))):
        raise InputError(
            f"{group}._target_={path}: expected a class or function of torch or optsweep, "
            "or a subclass of torch.optim.Optimizer or torch.optim.lr_scheduler.LRScheduler"
        )
    return found


def _is_subclass(found: Any, classes: tuple[type, ...]) -> bool:
    return isinstance(found, type) and issubclass(found, classes)
