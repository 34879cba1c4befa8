"""A user's mistake in one line, whoever found it; what is a bug keeps its traceback.

The line between the two is where an error was raised. An `InputError` is a mistake, and what
Hydra says, which only hears what the user says. So is what the operating system refuses: a full
disk, a folder of somebody else. Anything else that comes from optsweep's own code is a bug.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from optsweep import interrupts
from optsweep.cli.composition import config_dir
from optsweep.cli.output import make_sturdy
from optsweep.cli.overrides import VALUE_KEYS, options
from optsweep.cli.trust import check_command_line
from optsweep.config.checks import (
    ForeignError,
    InputError,
    files_of,
    first_line,
    is_ours,
    nearest,
)

MISTAKE, BUG, DAMAGED = 2, 1, 3  # exit codes; that of a signal is 128 and its number
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's variable: 1 asks for tracebacks of mistakes too
_SEE_MORE = " (--debug shows where)"
_HYDRAS_OWN = (HydraException, OmegaConfBaseException)
_HYDRAS_FILES = tuple(  # hydra_plugins has no file of its own; it lies beside hydra
    os.path.join(os.path.dirname(os.path.dirname(hydra.__file__)), package, "")
    for package in ("hydra", "hydra_plugins", "omegaconf")
)
_OUT_OF_THREADS = "can't start new thread"
_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


@contextlib.contextmanager
def in_one_line(debug: bool = False) -> Iterator[None]:
    """End the program with one line if what is done here meets a user's mistake.

    Args:
        debug: Show the traceback of a mistake too, as HYDRA_FULL_ERROR=1 also asks for.
    """
    debug = debug or os.environ.get(FULL_ERROR) == "1"
    make_sturdy(lambda line: print(f"optsweep: warning: {line}", file=sys.stderr))
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(interrupts.farewell())
    except Exception as error:
        if interrupts.received():
            sys.exit(interrupts.farewell())
        if not is_mistake(error):
            raise
        if debug:
            traceback.print_exception(error)
        exit_with(error)


def exit_with(error: Exception) -> NoReturn:
    """Print one line on standard error and exit with code 2."""
    print(f"optsweep: error: {one_line(error)}", file=sys.stderr)
    sys.exit(MISTAKE)


class OneLineParser(argparse.ArgumentParser):
    """A program's arguments, whose mistakes are one line as everywhere."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        exit_with(InputError(f"{message}; see --help"))


def count(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return int(text)


@dataclass(frozen=True)
class Failure:
    """What ended a cell, as it travels from the process that trained it.

    Attributes:
        reason: In one line.
        is_bug: Whether it was not the user's mistake.
        traceback: The whole of it.
    """

    reason: str
    is_bug: bool
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Tell of an error where it is caught."""
        text = "".join(traceback.format_exception(error))
        if is_mistake(error):
            return cls(one_line(error), False, text)
        return cls(f"a bug of optsweep's: {type(error).__name__}: {first_line(error)}", True, text)


class CellsFailed(Exception):
    """Some cells of a grid were not trained; the others were."""

    def __init__(self, failures: Mapping[str, Failure]) -> None:
        """Take what ended each of them, by what they are called."""
        super().__init__(f"{len(failures)} cells failed")
        self.failures = failures

    def tell(self, debug: bool) -> int:
        """Print a line for each reason, with its cells, and the tracebacks of bugs.

        Args:
            debug: Print those of mistakes too.

        Returns:
            The exit code.
        """
        cells_of: dict[str, list[str]] = {}
        for cell, failure in self.failures.items():
            if failure.reason not in cells_of and (debug or failure.is_bug):
                print(failure.traceback, file=sys.stderr, end="")
            cells_of.setdefault(failure.reason, []).append(cell)
        for reason, cells in cells_of.items():
            print(f"optsweep: error: {reason} [{'; '.join(cells)}]", file=sys.stderr)
        return BUG if any(failure.is_bug for failure in self.failures.values()) else MISTAKE


def is_mistake(error: Exception) -> bool:
    """Tell what a user can put right from a bug."""
    origin = _origin(error)
    if isinstance(origin, (InputError, *_HYDRAS_OWN)) or _is_of_memory(origin):
        return True
    if _is_of_threads(origin):
        return True
    if isinstance(origin, OSError):
        return origin.errno is not None  # the system's word, not ours
    files = files_of(origin.__traceback__)
    ours = [index for index, file in enumerate(files) if is_ours(file)]
    called = files[ours[-1] + 1 :] if ours else files
    return bool(called) and called[0].startswith(_HYDRAS_FILES)


def one_line(error: Exception) -> str:
    """What went wrong, from the cause that a user can act on."""
    from concurrent.futures import BrokenExecutor  # noqa: PLC0415 (which most starts spare)

    origin = _origin(error)
    if isinstance(origin, InputError):
        text = f"{origin}{_SEE_MORE if isinstance(origin, ForeignError) else ''}"
    elif isinstance(error, MissingConfigException):
        text = _missing_option(error)
    elif isinstance(error, OverrideParseException):
        text = _unreadable(str(error.override))
    elif isinstance(origin, OSError) and origin.errno is not None:
        text = f"{origin.filename or 'output'}: {origin.strerror or origin}"
    elif isinstance(origin, BrokenExecutor):
        text = "its process ended without a word; the system kills one that takes too much memory"
    elif isinstance(origin, YAMLError):
        text = " ".join(str(origin).split())
    elif _is_of_threads(origin):
        text = (
            "the system gives this process no more threads (ulimit -u, or a limit of its container)"
            "; trainer.num_threads=1 needs the fewest"
        )
    elif _is_of_memory(origin):
        text = (
            f"memory ran out ({first_line(origin)}); fewer seeds at once, smaller batches or a "
            "smaller network need less"
        )
    else:
        text = first_line(error)
        if text.endswith(":"):  # Hydra goes on in the next line
            text = " ".join(str(error).splitlines()[:2])
        text = reworded(text, lambda: _as_chosen(sys.argv[1:]))
    return text


def _origin(error: BaseException) -> Any:
    """What Hydra or OmegaConf wrapped, or the error itself."""
    while isinstance(error, _HYDRAS_OWN) and (inner := error.__cause__ or error.__context__):
        error = inner
    return error


def _is_of_threads(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _OUT_OF_THREADS in str(error)


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def _missing_option(error: MissingConfigException) -> str:
    """A misspelt option of a group, with the nearest valid one."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    names = list(error.options or options(group, config_dir()))
    if not group or not names:
        return first_line(error)
    number = ", or a number" if group in VALUE_KEYS else ""
    return f"{group}={option}: there is no such option; {nearest(option, names)}{number}"


def _unreadable(override: str) -> str:
    """An override that Hydra cannot read, with the quotes that let it."""
    key, equals, value = override.partition("=")
    if not equals:
        return (
            f"{override}: expected key=value; a value with spaces is quoted, "
            "for the shell and for Hydra: 'key=\"two words\"'"
        )
    quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
    text = f"{override}: this cannot be read as key=value"
    if not re.search(r"[=#~&;!^<>'\"]|/.*[()\[\]{}]", value):
        return text
    try:
        OverridesParser.create().parse_override(quoted)
    except HydraException:
        return text
    return f"{text}; quote the value, for the shell and for Hydra: {shlex.quote(quoted)}"


def reworded(text: str, known: Callable[[], tuple[Sequence[Any], Sequence[str]]]) -> str:
    """What Hydra said of an override, in this program's own words.

    Args:
        text: Hydra's.
        known: Gives the configurations that the choices of groups lead to, and these choices.
    """
    swept = re.match(r"Ambiguous value for argument '(.+)'|Sweep parameters '(.+)' requires", text)
    if swept is not None:
        return f"{swept[1] or swept[2]}: several values are a sweep; add --multirun"
    deleted = re.fullmatch(r"Key '(.+)' is not in struct", text)
    if deleted is not None:
        return f"{deleted[1]}: it cannot be deleted"
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown is None:
        return text + _SEE_MORE
    return _unknown_key(unknown[1], *known())


def _unknown_key(key: str, configurations: Sequence[Any], choices: Sequence[str]) -> str:
    """What to say of a key that configurations lack which were composed with these choices."""
    section, _, name = key.rpartition(".")
    keys = {found: value for each in configurations for found, value in _keys(each).items()}
    for parent in (key[: dot.start()] for dot in re.finditer(r"\.", key)):
        if parent in keys and not isinstance(keys[parent], Mapping):
            return f"{parent}={keys[parent]}: expected settings such as {key}=…"
    siblings = [each for each in keys if each.rpartition(".")[0] == section]
    names = [each.rpartition(".")[2] for each in siblings]
    if close := difflib.get_close_matches(name, names, n=1):
        hint = f"did you mean {siblings[names.index(close[0])]}?"
    elif close := difflib.get_close_matches(key, sorted(keys), n=1):
        hint = f"did you mean {close[0]}?"
    else:
        hint = "--help lists them"
    group = f"{key.partition('.')[0]}="
    chosen = "".join(f" with {text}" for text in choices if text.lstrip("+").startswith(group))
    return f"there is no key {key}{chosen}; {hint}"


def _as_chosen(arguments: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The configurations that a command line's choices of groups lead to, and these choices.

    There are none where they cannot be had: if they do not compose, or Hydra is at work.
    """
    flags, choices = [], []
    for text in arguments:
        key, equals, _ = text.partition("=")
        if text.startswith("-") or not equals or key == "hydra.searchpath":
            flags.append(text)
        elif options(key.lstrip("+").partition("@")[0], config_dir()):
            choices.append(text)
    if GlobalHydra.instance().is_initialized():
        return [], choices
    try:
        composed = [check_command_line([*flags, *each]) for each in _single_choices(choices)]
    except (InputError, *_HYDRAS_OWN):
        return [], choices
    return [OmegaConf.to_container(each) for each in composed], choices


def _single_choices(choices: Sequence[str]) -> list[list[str]]:
    """Choices without sweeps, so often that every option that is swept comes once."""
    of_groups = []
    for override in OverridesParser.create().parse_overrides(list(choices)):
        texts = [str(override.input_line)]
        if override.is_discrete_sweep():
            values = override.sweep_string_iterator()
            texts = [f"{override.get_key_element()}={value}" for value in values]
        of_groups.append(texts)
    longest = max(map(len, of_groups), default=1)
    return [[texts[index % len(texts)] for texts in of_groups] for index in range(longest)]


def _keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of nested mappings, with its value."""
    keys = {}
    for key, value in values.items():
        keys[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            keys |= _keys(value, f"{prefix}{key}.")
    return keys
