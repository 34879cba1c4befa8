"""Checks of single values, with messages that name the value and what would be right."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_HOME = os.path.dirname(os.path.dirname(__file__)) + os.sep  # of the package


class InputError(ValueError):
    """A user's mistake: one line that names the value and what would be right."""


class ForeignError(InputError):
    """What code that is not ours says of a user's values; its traceback may tell more."""


class Blaming:
    """`with Blaming("optimizer Adam"):` around one call of code that a setting names.

    What that code raises is a mistake of the user's, in one line. What optsweep's own code
    raises below the call stays as it is: a bug.
    """

    def __init__(self, what: str) -> None:
        """Say of `what` that it refuses its values."""
        self.what = what

    def __enter__(self) -> None:
        """Nothing has to be prepared."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Reword what was raised, if it was not raised by optsweep.

        Raises:
            ForeignError: In its place.
        """
        if not isinstance(error, (Exception, SystemExit)) or isinstance(error, InputError):
            return
        files = files_of(trace)
        # Slurm's signal, whose handler ends the job wherever it is, is nobody's fault.
        if isinstance(error, SystemExit) and any("submitit" in Path(file).parts for file in files):
            return
        if len(files) == 1 or not is_ours(files[-1]):  # 1: the call itself does not fit
            raise ForeignError(f"{self.what}: {first_line(error)}") from error


def files_of(trace: TracebackType | None) -> list[str]:
    """The file of every frame of a traceback, where the error was raised last."""
    return [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]


def is_ours(file: str) -> bool:
    """Tell whether a source file is one of optsweep's."""
    return file.startswith(_HOME)


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint at the valid name that is spelt most alike, or the list of all of them."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"valid are {', '.join(names)}"


def known_keys(prefix: str, values: Any, names: Sequence[str]) -> None:
    """Refuse a mapping with a key that is not among `names`."""
    if not isinstance(values, Mapping):
        raise InputError(f"{prefix.rstrip('.')}={values}: expected {', '.join(names)}")
    for key in values:
        if key not in names:
            raise InputError(f"there is no key {prefix}{key}; {nearest(key, names)}")


def integer(key: str, value: Any, low: int, high: int, of: str = "") -> int:
    """A whole number from `low` to `high`; `of` says what `high` counts."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        what = f" (the number of {of})" if of else ""
        raise InputError(f"{key}={value}: expected a whole number from {low} to {high}{what}")
    return value


def number(key: str, value: Any, below: float = math.inf) -> float:
    """A number in [0, below)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
        wanted = "a finite number >= 0" if below == math.inf else f"a number in [0, {below})"
        raise InputError(f"{key}={as_text(value)}: expected {wanted}")
    return float(value) + 0.0  # of -0.0, which would be another name for 0, this makes 0


def choice(key: str, value: Any, choices: list[str]) -> str:
    """One of a few words."""
    if value not in choices:
        raise InputError(f"{key}={value}: expected {' or '.join(choices)}")
    return value


def name(key: str, value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={value}: expected a name")
    return value


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    list: "a list",
}


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function or class, with annotations that are types where they can be."""
    try:
        return inspect.signature(function, eval_str=True).parameters
    except (NameError, TypeError):  # of names that only a type checker sees
        return inspect.signature(function).parameters


def check_arguments(
    place: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> None:
    """Refuse a value of another kind than its parameter's annotation or default is of.

    Python would take the word `no` for true, and most classes do not look.

    Args:
        place: Section of the configuration, for the message.
        parameters: Of the function that is going to be called.
        given: Its arguments.

    Raises:
        InputError: If a value is not of its parameter's kind.
    """
    for key, value in given.items():
        kinds = _kinds(parameters[key]) if key in parameters else set()
        if kinds and value is not None and not _is_one_of(kinds, value):
            wanted = " or ".join(word for kind, word in _WORDS.items() if kind in kinds)
            raise InputError(f"{place}.{key}={as_text(value)}: expected {wanted}")


def _kinds(parameter: inspect.Parameter) -> set[type]:
    """What a parameter takes, of bool, int, float, str and list; nothing if that is not known."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is parameter.empty:
        if isinstance(default, (bool, str)):
            return {type(default)}
        return {float} if isinstance(default, (int, float)) else set()
    kinds = set()
    alternatives = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    for each in alternatives:
        origin = typing.get_origin(each) or each
        if origin is typing.Literal:
            kinds |= {type(word) for word in typing.get_args(each)}
        elif origin in _WORDS:
            kinds.add(origin)
        elif isinstance(origin, type) and issubclass(origin, Sequence):
            kinds.add(list)
        elif origin is Any or isinstance(origin, (str, typing.TypeVar)):
            return set()
    return kinds


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_one_of(kinds: set[type], value: Any) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int):
        return bool({int, float} & kinds)
    if isinstance(value, float):
        return float in kinds
    if isinstance(value, str):
        return str in kinds
    return isinstance(value, Sequence) and list in kinds


def first_line(error: BaseException) -> str:
    """What an error says, in one line, with its kind where its words alone tell nothing."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, LookupError):
        return f"{type(error).__name__}: {text}"
    return text or type(error).__name__


def as_text(value: Any) -> str:
    """A value as a command line would have it: lists without spaces."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)
