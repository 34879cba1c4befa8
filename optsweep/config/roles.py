"""Roles of a network's parameters, by which the section `optimizer` treats some of them apart.

`groups` has settings for single roles, `rest` a second optimizer for some roles; both are brought
into one form here, in which two ways of saying the same are the same cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optsweep.config.checks import InputError, as_text, nearest

# Of two axes or more: the weights of the first layer, of the last and of those between, and what
# is not called a weight, such as a transformer's positions.
MATRICES = ("first", "hidden", "last", "embedding")
VECTORS = ("bias", "norm")
ROLES = (*MATRICES, *VECTORS)
NOT_HIDDEN = tuple(role for role in ROLES if role != "hidden")

# Flag of the section -> what a group of biases or norms says where it is false.
_FLAGS = {
    "decay_biases_and_norms": ("weight_decay", 0.0),
    "adapt_biases_and_norms": ("adapt", False),
}


def check_roles(key: str, roles: Any) -> list[str]:
    """A list of roles, each once, in the order of `ROLES`.

    Raises:
        InputError: If it is not one.
    """
    if not isinstance(roles, Sequence) or isinstance(roles, str) or not roles:
        raise InputError(f"{key}={as_text(roles)}: expected a list of {', '.join(ROLES)}")
    for role in roles:
        check_role(key, role)
    return [role for role in ROLES if role in roles]


def check_role(key: str, role: Any) -> None:
    """Refuse what is no role.

    Raises:
        InputError: It names the roles.
    """
    if role not in ROLES:
        raise InputError(f"{key}: there is no role {role}; {nearest(str(role), ROLES)}")


def with_groups(settings: Mapping[str, Any], groups: Any) -> dict[str, Any]:
    """Settings of an optimizer with `groups` in the one form that all ways of saying it share.

    What a flag such as `decay_biases_and_norms` says is said by the flag, and a group's setting
    that is the optimizer's own is left out.

    Raises:
        InputError: If `groups` is no mapping of roles to settings, or a flag is not one.

    >>> with_groups({"lr": 0.1}, {"bias": {"weight_decay": 0}, "norm": {"weight_decay": 0.0}})
    {'lr': 0.1, 'decay_biases_and_norms': False}
    >>> with_groups({"lr": 0.1, "decay_biases_and_norms": True}, {"last": {"lr": 0.1}})
    {'lr': 0.1, 'decay_biases_and_norms': True}
    """
    own = _given(groups)
    settings = dict(settings)
    for flag, (name, value) in _FLAGS.items():
        if not isinstance(settings.get(flag, True), bool):
            raise InputError(f"optimizer.{flag}={settings[flag]}: expected true or false")
        of_vectors = [own.get(role, {}) for role in VECTORS]
        if all(name in each and each[name] == value for each in of_vectors):
            settings[flag] = False
        if settings.get(flag, True):
            continue
        for each in of_vectors:
            if name in each and each[name] == value:
                del each[name]
    for role, of_role in own.items():
        for name, value in list(of_role.items()):
            flags = [flag for flag, (setting, _) in _FLAGS.items() if setting == name]
            switched = role in VECTORS and any(not settings.get(flag, True) for flag in flags)
            if settings.get(name) == value and not switched:
                del of_role[name]
    own = {role: of_role for role, of_role in own.items() if of_role}
    return settings | ({"groups": own} if own else {})


def flagged(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the flags in an optimizer's settings say of its biases and norms.

    >>> flagged({"decay_biases_and_norms": False, "adapt_biases_and_norms": True})
    {'weight_decay': 0.0}
    """
    return {name: value for flag, (name, value) in _FLAGS.items() if not settings.get(flag, True)}


def _given(groups: Any) -> dict[str, dict[str, Any]]:
    """The settings that are given, not null, by role."""
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise InputError(
            f"optimizer.groups={groups}: expected settings by role: {', '.join(ROLES)}"
        )
    for role, of_role in groups.items():
        check_role("optimizer.groups", role)
        if of_role is not None and not isinstance(of_role, Mapping):
            raise InputError(f"optimizer.groups.{role}={of_role}: expected settings, such as lr")
    named = {role: groups[role] or {} for role in ROLES if role in groups}
    return {
        role: {key: value for key, value in of_role.items() if value is not None}
        for role, of_role in named.items()
    }
