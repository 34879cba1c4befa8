"""A user's mistake in one line, whoever found it: this program, Hydra or the operating system."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import VALUE_KEYS, options
from optsweep.config.checks import InputError, nearest

# What a user can put right.
MISTAKES = (InputError, HydraException, OmegaConfBaseException, OSError)


def is_mistake(error: ValueError) -> bool:
    """Whether a ValueError is Hydra's word on an override such as `optimizer=null`."""
    return str(error).startswith("Config group override must be")


def exit_with(error: BaseException) -> NoReturn:
    """Print one line on standard error and exit with code 2."""
    print(f"optsweep: error: {one_line(error)}", file=sys.stderr)
    sys.exit(2)


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


def one_line(error: BaseException) -> str:
    """What went wrong, from the cause that a user can act on."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, InputError):
            return str(cause)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: this cannot be read as key=value"
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or error}"
    innermost = next((e for e in reversed(causes) if isinstance(e, OmegaConfBaseException)), error)
    return _reworded((str(error) or str(innermost)).partition("\n")[0])


def _missing_option(error: MissingConfigException) -> str:
    """A misspelt option of a group, with the nearest valid one."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    names = list(error.options or options(group, config_dir()))
    if not group or not names:
        return str(error).partition("\n")[0]
    number = ", or a number" if group in VALUE_KEYS else ""
    return f"{group}={option}: there is no such option; {nearest(option, names)}{number}"


def _reworded(text: str) -> str:
    """What Hydra said of an override, in this program's own words."""
    swept = re.match(r"Ambiguous value for argument '(.+)'|Sweep parameters '(.+)' requires", text)
    if swept is not None:
        return f"{swept[1] or swept[2]}: several values are a sweep; add --multirun"
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown is None:
        return text
    with hydra.initialize_config_dir(str(config_dir())):
        composed: Any = OmegaConf.to_container(hydra.compose("config"))
    close = difflib.get_close_matches(unknown[1], sorted(_keys(composed)), n=1)
    hint = f"did you mean {close[0]}?" if close else "--help lists them"
    return f"there is no key {unknown[1]}; {hint}"


def _keys(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Every dotted key of nested mappings."""
    keys = set()
    for key, value in values.items():
        keys.add(prefix + key)
        if isinstance(value, Mapping):
            keys |= _keys(value, f"{prefix}{key}.")
    return keys
